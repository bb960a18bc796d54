/* A call that reports how long it took: `requests.observed`. */

#include "fast.h"

PyTypeObject *fast_observed_class;

static int
observed_traverse(ObservedRecord *self, visitproc visit, void *arg)
{
    Py_VISIT(self->observer);
    Py_VISIT(self->executor);
    Py_VISIT(self->destination);
    Py_VISIT(self->address);
    Py_VISIT(self->context);
    return fast_CallRecord.tp_traverse((PyObject *)self, visit, arg);
}

static int
observed_clear(ObservedRecord *self)
{
    Py_CLEAR(self->observer);
    Py_CLEAR(self->executor);
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
    Py_CLEAR(self->executor);
    Py_CLEAR(self->destination);
    Py_CLEAR(self->address);
    Py_CLEAR(self->context);
    fast_CallRecord.tp_dealloc((PyObject *)self);
}

int
fast_observe(ObservedRecord *self, Executor *executor, PyObject *destination)
{
    self->executor = (Executor *)Py_NewRef(executor);
    self->observer = Py_NewRef(executor->observer);
    self->destination = Py_NewRef(destination);
    /* A listener that takes only times needs no context. */
    self->context = executor->context == NULL || executor->context == Py_None ? PyContext_CopyCurrent()
                                                                              : Py_NewRef(executor->context);
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

/* Give a time to the only listener. */
static int
report(ObservedRecord *self, PyObject *note_time, PyObject *name, double seconds)
{
    if (Py_TYPE(note_time) == &fast_TimeRecorder && fast_record_time(note_time, name, seconds)) {
        return 0;
    }
    PyObject *value = PyFloat_FromDouble(seconds);
    if (value == NULL) {
        return -1;
    }
    PyObject *listener = Py_NewRef(note_time), *args[] = {name, value, Py_None};
    PyObject *done = PyObject_Vectorcall(listener, args, 3, NULL);
    int failed = done == NULL ? report_failed(self, name) : 0;
    Py_DECREF(listener);
    Py_DECREF(value);
    Py_XDECREF(done);
    return failed;
}

int
fast_note_time(ObservedRecord *self)
{
    PyObject *note_time = self->executor == NULL ? NULL : self->executor->note_time;
    /* A later observer must not get a command that was called before. */
    if (note_time == NULL || note_time == Py_None || self->executor->observer != self->observer) {
        return 0;
    }
    PyObject *now = PyObject_CallNoArgs(self->executor->seconds);
    if (now == NULL || !PyFloat_CheckExact(now)) {
        /* An int of the clock of a test. */
        Py_XDECREF(now);
        return now == NULL ? -1 : 0;
    }
    double seconds = PyFloat_AS_DOUBLE(now) - self->base.since;
    Py_DECREF(now);
    PyObject *name = PyObject_GetAttr(self->base.command, fast_str.name);
    int failed = name == NULL || report(self, note_time, name, seconds) < 0;
    Py_XDECREF(name);
    return failed ? -1 : 1;
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
