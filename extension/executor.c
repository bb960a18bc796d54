/* Sends a plain command: `Router.execute`. */

#include "fast.h"

static int
executor_traverse(Executor *self, visitproc visit, void *arg)
{
    Py_VISIT(self->python);
    Py_VISIT(self->commands);
    Py_VISIT(self->destinations);
    Py_VISIT(self->seconds);
    Py_VISIT(self->canceller);
    Py_VISIT(self->no_timeout);
    Py_VISIT(self->converted);
    Py_VISIT(self->observer);
    Py_VISIT(self->context);
    Py_VISIT(self->note_time);
    return 0;
}

static int
executor_clear(Executor *self)
{
    Py_CLEAR(self->python);
    Py_CLEAR(self->commands);
    Py_CLEAR(self->destinations);
    Py_CLEAR(self->seconds);
    Py_CLEAR(self->canceller);
    Py_CLEAR(self->no_timeout);
    Py_CLEAR(self->converted);
    Py_CLEAR(self->observer);
    Py_CLEAR(self->context);
    Py_CLEAR(self->note_time);
    return 0;
}

static void
executor_dealloc(Executor *self)
{
    PyObject_GC_UnTrack(self);
    executor_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int
is_observed(Executor *self)
{
    return self->observer != NULL && self->observer != Py_None;
}

/* Make the call of a command; `make` is the class, or a function that makes a call of another class. */
static PyObject *
make_call(Executor *self, PyObject *make, PyObject *command, PyObject *payload, int slot, double since, double deadline,
          PyObject *repeatable)
{
    PyTypeObject *class = is_observed(self) ? fast_observed_class : fast_call_class;
    PyObject *target = PyLong_FromLong(slot);
    if (target == NULL) {
        return NULL;
    }
    if (make == (PyObject *)fast_call_class || class == fast_observed_class) {
        CallRecord *call = (CallRecord *)class->tp_alloc(class, 0);
        if (call == NULL) {
            Py_DECREF(target);
            return NULL;
        }
        call->command = Py_NewRef(command);
        call->payload = Py_NewRef(payload);
        call->repeatable = Py_NewRef(repeatable);
        call->canceller = Py_NewRef(self->canceller);
        call->target = target;
        call->since = since;
        call->deadline = deadline;
        if (class == fast_observed_class
            && fast_observe((ObservedRecord *)call, self, PyList_GET_ITEM(self->destinations, slot)) < 0) {
            Py_CLEAR(call);
        }
        return (PyObject *)call;
    }
    if (make == (PyObject *)fast_reply_class) {
        PyObject *reply = fast_make_reply(command, payload, target, since, deadline, repeatable, self->canceller);
        Py_DECREF(target);
        return reply;
    }
    PyObject *begun = PyFloat_FromDouble(since), *end = PyFloat_FromDouble(deadline), *call = NULL;
    if (begun != NULL && end != NULL) {
        PyObject *args[] = {payload, command, target, begun, end, repeatable, self->canceller};
        call = PyObject_Vectorcall(make, args, 7, NULL);
    }
    Py_XDECREF(begun);
    Py_XDECREF(end);
    Py_DECREF(target);
    return call;
}

/* Send a command with one key.  Returns NULL, with or without an exception, if the Python code has to send it. */
static PyObject *
execute(Executor *self, PyObject *words, PyObject *timeout, PyObject *repeatable, PyObject *make)
{
    PyObject *command = PyDict_GetItemWithError(self->commands, PyTuple_GET_ITEM(words, 0));
    if (command == NULL) {
        return NULL;
    }
    PyObject *wire_name = NULL, *payload = NULL, *now = NULL, *safe = NULL, *call = NULL;
    int slot = 0;
    Py_INCREF(command);
    if (fast_is_true(command, fast_str.keyed) != 1
        || (wire_name = PyObject_GetAttr(command, fast_str.wire_name)) == NULL
        || (payload = fast_pack_keyed(wire_name, words, &slot)) == NULL
        || (now = PyObject_CallNoArgs(self->seconds)) == NULL || !PyFloat_CheckExact(now)) {
        goto done;
    }
    double since = PyFloat_AS_DOUBLE(now), deadline;
    if (timeout == self->no_timeout) {
        deadline = since + self->limit;
    }
    else if (timeout == Py_None) {
        deadline = INFINITY;
    }
    else if (PyFloat_CheckExact(timeout) || PyLong_CheckExact(timeout)) {
        deadline = since + PyFloat_AsDouble(timeout);
    }
    else {
        goto done;
    }
    safe = repeatable == Py_True ? Py_NewRef(Py_True) : PyObject_GetAttr(command, fast_str.repeatable);
    if (safe == NULL || PyErr_Occurred()) {
        goto done;
    }
    call = make_call(self, make, command, payload, slot, since, deadline, safe);
    if (call != NULL) {
        PyObject *destination = Py_NewRef(PyList_GET_ITEM(self->destinations, slot));
        PyObject *sent = PyObject_CallMethodOneArg(destination, fast_str.send, call);
        Py_DECREF(destination);
        if (sent == NULL) {
            Py_CLEAR(call);
        }
        Py_XDECREF(sent);
    }
done:
    Py_DECREF(command);
    Py_XDECREF(wire_name);
    Py_XDECREF(payload);
    Py_XDECREF(now);
    Py_XDECREF(safe);
    return call;
}

/* Tell whether the arguments of `Router.execute` are those of a new command that this code can send. */
static int
is_usual(PyObject *const *args, Py_ssize_t count, PyObject *kwnames)
{
    if (kwnames != NULL
        && (PyTuple_GET_SIZE(kwnames) != 1 || PyUnicode_Compare(PyTuple_GET_ITEM(kwnames, 0), fast_str.make) != 0)) {
        return 0;
    }
    return count >= 1 && count <= 6 && count != 3 && (count < 6 || kwnames == NULL) && PyTuple_CheckExact(args[0])
           && PyTuple_GET_SIZE(args[0]) >= 2 && PyUnicode_CheckExact(PyTuple_GET_ITEM(args[0], 0))
           && (count < 4 || PyBool_Check(args[3]))
           /* terms[1] says whether the command was accepted before. */
           && (count < 5
               || (PyTuple_Check(args[4]) && PyTuple_GET_SIZE(args[4]) == 2
                   && PyTuple_GET_ITEM(args[4], 1) == Py_False));
}

PyObject *
fast_execute(Executor *self, PyObject *words, PyObject *make)
{
    if (self->off || is_observed(self) || !is_usual(&words, 1, NULL)) {
        return NULL;
    }
    return execute(self, words, self->no_timeout, Py_False, make);
}

/* execute(words, convert, timeout, repeatable, terms, make) */
static PyObject *
executor_call(Executor *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (!self->off && is_usual(args, count, kwnames)) {
        PyObject *timeout = count >= 4 ? args[2] : self->no_timeout;
        PyObject *make = kwnames != NULL ? args[count] : count == 6 ? args[5] : (PyObject *)fast_call_class;
        PyObject *call = execute(self, args[0], timeout, count >= 4 ? args[3] : Py_False, make);
        if (call != NULL) {
            if (count < 2 || args[1] == Py_None) {
                return call;
            }
            PyObject *both[] = {call, self->converted, args[1]};
            PyObject *result = PyObject_VectorcallMethod(fast_str.addCallback, both, 3, NULL);
            Py_DECREF(call);
            return result;
        }
        if (fast_clear_error() < 0) {
            return NULL;
        }
    }
    PyObject *python = Py_NewRef(self->python), *done = PyObject_Vectorcall(python, args, count, kwnames);
    Py_DECREF(python);
    return done;
}

static int
executor_init(Executor *self, PyObject *args, PyObject *keywords)
{
    PyObject *python, *commands, *destinations, *seconds, *canceller, *no_timeout, *convert;
    double limit;
    if (!PyArg_ParseTuple(args, "OO!O!OdOOO", &python, &PyDict_Type, &commands, &PyList_Type, &destinations, &seconds,
                          &limit, &canceller, &no_timeout, &convert)) {
        return -1;
    }
    if (PyList_GET_SIZE(destinations) != 16384 || fast_call_class == NULL || fast_observed_class == NULL) {
        PyErr_SetString(PyExc_ValueError, "there must be a destination for each slot, and the classes must be known");
        return -1;
    }
    Py_XSETREF(self->python, Py_NewRef(python));
    Py_XSETREF(self->commands, Py_NewRef(commands));
    Py_XSETREF(self->destinations, Py_NewRef(destinations));
    Py_XSETREF(self->seconds, Py_NewRef(seconds));
    Py_XSETREF(self->canceller, Py_NewRef(canceller));
    Py_XSETREF(self->no_timeout, Py_NewRef(no_timeout));
    Py_XSETREF(self->converted, Py_NewRef(convert));
    self->limit = limit;
    self->vectorcall = (vectorcallfunc)executor_call;
    return 0;
}

static PyMemberDef executor_members[] = {
    {"off", T_BOOL, offsetof(Executor, off), 0, NULL},
    {"python", T_OBJECT_EX, offsetof(Executor, python), 0, NULL},
    {"observer", T_OBJECT, offsetof(Executor, observer), 0, NULL},
    {"context", T_OBJECT, offsetof(Executor, context), 0, NULL},
    {"note_time", T_OBJECT, offsetof(Executor, note_time), 0, NULL},
    {NULL},
};

PyTypeObject fast_Executor = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.Executor",
    .tp_basicsize = sizeof(Executor),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Executor, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)executor_init,
    .tp_dealloc = (destructor)executor_dealloc,
    .tp_traverse = (traverseproc)executor_traverse,
    .tp_clear = (inquiry)executor_clear,
    .tp_members = executor_members,
};
