/* How long commands took, in buckets: `prometheus`. */

#include "fast.h"

/* The times of one command: the class `_Times`, without the list of times that are not in buckets yet. */
typedef struct {
    PyObject_HEAD
    PyObject *bounds;
    double *limits;
    Py_ssize_t *counts; /* the times in each bucket */
    Py_ssize_t buckets, number;
    double total;
} Times;

static void
times_dealloc(Times *self)
{
    Py_XDECREF(self->bounds);
    PyMem_Free(self->limits);
    PyMem_Free(self->counts);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int
times_init(Times *self, PyObject *args, PyObject *keywords)
{
    PyObject *bounds;
    if (self->limits != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the times have been initialized before");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &bounds)) {
        return -1;
    }
    Py_ssize_t buckets = PyList_GET_SIZE(bounds);
    self->limits = PyMem_New(double, buckets + 1);
    self->counts = PyMem_Calloc((size_t)buckets + 1, sizeof(Py_ssize_t));
    if (self->limits == NULL || self->counts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t place = 0; place < buckets; place++) {
        self->limits[place] = PyFloat_AsDouble(PyList_GET_ITEM(bounds, place));
    }
    self->bounds = Py_NewRef(bounds);
    self->buckets = buckets;
    return PyErr_Occurred() ? -1 : 0;
}

/* Put a time into its bucket: the first one whose bound is not below it. */
static void
add_time(Times *self, double seconds)
{
    Py_ssize_t low = 0, high = self->buckets;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (self->limits[middle] < seconds) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    if (low < self->buckets) {
        self->counts[low]++;
    }
    self->number++;
    self->total += seconds;
}

static PyObject *
times_append(Times *self, PyObject *seconds)
{
    double value = PyFloat_AsDouble(seconds);
    if (value == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (self->bounds == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the times have not been initialized");
        return NULL;
    }
    add_time(self, value);
    Py_RETURN_NONE;
}

static PyObject *
times_below(Times *self, void *closure)
{
    PyObject *below = PyList_New(self->buckets);
    Py_ssize_t sum = 0;
    for (Py_ssize_t place = 0; below != NULL && place < self->buckets; place++) {
        sum += self->counts[place];
        PyObject *count = PyLong_FromSsize_t(sum);
        if (count == NULL) {
            Py_CLEAR(below);
        }
        else {
            PyList_SET_ITEM(below, place, count);
        }
    }
    return below;
}

static PyObject *
times_copy(Times *self, PyObject *ignored)
{
    Times *same =
        (Times *)PyObject_CallOneArg((PyObject *)Py_TYPE(self), self->bounds == NULL ? Py_None : self->bounds);
    if (same != NULL) {
        memcpy(same->counts, self->counts, (size_t)self->buckets * sizeof *self->counts);
        same->number = self->number;
        same->total = self->total;
    }
    return (PyObject *)same;
}

static PyObject *
times_sort_in(Times *self, PyObject *ignored)
{
    /* All times are in buckets. */
    Py_RETURN_NONE;
}

static Py_ssize_t
times_length(Times *self)
{
    return 0;
}

static PyMemberDef times_members[] = {
    {"number", T_PYSSIZET, offsetof(Times, number), READONLY, NULL},
    {"total", T_DOUBLE, offsetof(Times, total), READONLY, NULL},
    {NULL},
};

static PyGetSetDef times_getset[] = {
    {"below", (getter)times_below, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef times_methods[] = {
    {"append", (PyCFunction)times_append, METH_O, NULL},
    {"copy", (PyCFunction)times_copy, METH_NOARGS, NULL},
    {"sort_in", (PyCFunction)times_sort_in, METH_NOARGS, NULL},
    {NULL},
};

static PySequenceMethods times_sequence = {.sq_length = (lenfunc)times_length};

PyTypeObject fast_Times = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.Times",
    .tp_basicsize = sizeof(Times),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)times_init,
    .tp_dealloc = (destructor)times_dealloc,
    .tp_methods = times_methods,
    .tp_members = times_members,
    .tp_getset = times_getset,
    .tp_as_sequence = &times_sequence,
};

/* Calls a function in Python with the name, the time and the error of a command, unless it needs only its `Times`. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *python, *times;
} TimeRecorder;

int
fast_record_time(PyObject *recorder, PyObject *name, double seconds)
{
    PyObject *all = ((TimeRecorder *)recorder)->times;
    PyObject *times = all == NULL ? NULL : PyDict_GetItemWithError(all, name);
    if (times == NULL || Py_TYPE(times) != &fast_Times) {
        /* The Python code finds an error again. */
        PyErr_Clear();
        return 0;
    }
    add_time((Times *)times, seconds);
    return 1;
}

/* recorder(name, seconds, error) */
static PyObject *
recorder_call(TimeRecorder *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (count == 3 && kwnames == NULL && args[2] == Py_None && PyFloat_CheckExact(args[1])
        && fast_record_time((PyObject *)self, args[0], PyFloat_AS_DOUBLE(args[1]))) {
        Py_RETURN_NONE;
    }
    return PyObject_Vectorcall(self->python, args, count, kwnames);
}

static int
recorder_traverse(TimeRecorder *self, visitproc visit, void *arg)
{
    Py_VISIT(self->python);
    Py_VISIT(self->times);
    return 0;
}

static int
recorder_clear(TimeRecorder *self)
{
    Py_CLEAR(self->python);
    Py_CLEAR(self->times);
    return 0;
}

static void
recorder_dealloc(TimeRecorder *self)
{
    PyObject_GC_UnTrack(self);
    recorder_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int
recorder_init(TimeRecorder *self, PyObject *args, PyObject *keywords)
{
    PyObject *python, *times;
    if (!PyArg_ParseTuple(args, "OO!", &python, &PyDict_Type, &times)) {
        return -1;
    }
    Py_XSETREF(self->python, Py_NewRef(python));
    Py_XSETREF(self->times, Py_NewRef(times));
    self->vectorcall = (vectorcallfunc)recorder_call;
    return 0;
}

PyTypeObject fast_TimeRecorder = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.TimeRecorder",
    .tp_basicsize = sizeof(TimeRecorder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(TimeRecorder, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)recorder_init,
    .tp_dealloc = (destructor)recorder_dealloc,
    .tp_traverse = (traverseproc)recorder_traverse,
    .tp_clear = (inquiry)recorder_clear,
};
