/* A call that reports how long it took: `requests.observed`, and the reports of `prometheus`. */

#include "fast.h"

PyTypeObject *fast_observed_class;

static int
observed_traverse(ObservedRecord *self, visitproc visit, void *arg)
{
    Py_VISIT(self->observer);
    Py_VISIT(self->destination);
    Py_VISIT(self->address);
    Py_VISIT(self->context);
    return fast_CallRecord.tp_traverse((PyObject *)self, visit, arg);
}

static int
observed_clear(ObservedRecord *self)
{
    Py_CLEAR(self->observer);
    Py_CLEAR(self->destination);
    Py_CLEAR(self->address);
    Py_CLEAR(self->context);
    return fast_CallRecord.tp_clear((PyObject *)self);
}

static void
observed_dealloc(ObservedRecord *self)
{
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->observer);
    Py_CLEAR(self->destination);
    Py_CLEAR(self->address);
    Py_CLEAR(self->context);
    fast_CallRecord.tp_dealloc((PyObject *)self);
}

int
fast_observe(ObservedRecord *self, PyObject *observer, PyObject *context, PyObject *destination)
{
    self->observer = Py_NewRef(observer);
    self->destination = Py_NewRef(destination);
    self->context = context == Py_None ? PyContext_CopyCurrent() : Py_NewRef(context);
    return self->context == NULL ? -1 : 0;
}

/* The node: that of the first destination, until another one is set. */
static PyObject *
get_address(ObservedRecord *self, void *closure)
{
    if (self->address != NULL || self->destination == NULL) {
        return Py_NewRef(self->address == NULL ? Py_None : self->address);
    }
    PyObject *address = PyObject_GetAttr(self->destination, fast_str.address);
    if (address == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        /* A queue. */
        PyErr_Clear();
        return Py_NewRef(Py_None);
    }
    return address;
}

static int
set_address(ObservedRecord *self, PyObject *address, void *closure)
{
    Py_XSETREF(self->address, Py_XNewRef(address));
    return 0;
}

/* Tell the observer that its listener has raised an exception. */
static int
report_failed(ObservedRecord *self, PyObject *name)
{
    PyObject *error = fast_take_error();
    /* As in an `except` block: the observer logs this exception. */
    PyObject *outer = PyErr_GetHandledException();
    PyErr_SetHandledException(error);
    int failed = fast_tell(self->observer, fast_str.report_failed, name);
    PyErr_SetHandledException(outer);
    Py_XDECREF(outer);
    Py_XDECREF(error);
    return failed;
}

int
fast_note_time(ObservedRecord *self)
{
    PyObject *note_time = self->observer == NULL ? NULL : PyObject_GetAttr(self->observer, fast_str.note_time);
    if (note_time == NULL || note_time == Py_None) {
        PyErr_Clear();
        Py_XDECREF(note_time);
        return 0;
    }
    PyObject *name = PyObject_GetAttr(self->base.command, fast_str.name), *seconds = NULL, *done = NULL;
    PyObject *now = name == NULL ? NULL : PyObject_CallMethodNoArgs(self->observer, fast_str.seconds);
    int result = -1;
    if (now != NULL && !PyFloat_CheckExact(now)) {
        /* The clock of a test. */
        result = 0;
    }
    else if (now != NULL && (seconds = PyFloat_FromDouble(PyFloat_AS_DOUBLE(now) - self->base.since)) != NULL) {
        PyObject *args[] = {name, seconds, Py_None};
        done = PyObject_Vectorcall(note_time, args, 3, NULL);
        result = done != NULL || report_failed(self, name) == 0 ? 1 : -1;
    }
    Py_DECREF(note_time);
    Py_XDECREF(name);
    Py_XDECREF(now);
    Py_XDECREF(seconds);
    Py_XDECREF(done);
    return result;
}

static PyMemberDef observed_members[] = {
    {"_observer", T_OBJECT_EX, offsetof(ObservedRecord, observer), 0, NULL},
    {"context", T_OBJECT_EX, offsetof(ObservedRecord, context), 0, NULL},
    {NULL},
};

static PyGetSetDef observed_getset[] = {
    {"address", (getter)get_address, (setter)set_address, NULL, NULL},
    {NULL},
};

PyTypeObject fast_ObservedRecord = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.ObservedRecord",
    .tp_base = &fast_CallRecord,
    .tp_basicsize = sizeof(ObservedRecord),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)observed_dealloc,
    .tp_traverse = (traverseproc)observed_traverse,
    .tp_clear = (inquiry)observed_clear,
    .tp_members = observed_members,
    .tp_getset = observed_getset,
};

/* Collects how long commands took, in lists by their names: `note_time` of `prometheus`. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *python, *times;
    Py_ssize_t most;
} TimeRecorder;

/* recorder(name, seconds, error) */
static PyObject *
recorder_call(TimeRecorder *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (count == 3 && kwnames == NULL && args[2] == Py_None && PyFloat_CheckExact(args[1])
        && PyUnicode_CheckExact(args[0])) {
        PyObject *times = PyDict_GetItemWithError(self->times, args[0]);
        if (times != NULL && PyList_Check(times) && PyList_GET_SIZE(times) + 1 < self->most) {
            return PyList_Append(times, args[1]) < 0 ? NULL : Py_NewRef(Py_None);
        }
        if (PyErr_Occurred()) {
            return NULL;
        }
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
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "OO!n", &python, &PyDict_Type, &times, &most)) {
        return -1;
    }
    Py_XSETREF(self->python, Py_NewRef(python));
    Py_XSETREF(self->times, Py_NewRef(times));
    self->most = most;
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
