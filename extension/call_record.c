/* The Deferred of a command, with the attributes of a request: `fast_deferred` and `request`. */

#include "fast.h"

static int
call_traverse(CallRecord *self, visitproc visit, void *arg)
{
    Py_VISIT(self->payload);
    Py_VISIT(self->command);
    Py_VISIT(self->target);
    Py_VISIT(self->history);
    Py_VISIT(self->repeatable);
    Py_VISIT(self->callbacks);
    Py_VISIT(self->canceller);
    Py_VISIT(self->result);
    Py_VISIT(self->chained_to);
    Py_VISIT(self->debug_info);
    Py_VISIT(self->generator);
    Py_VISIT(self->status);
    Py_VISIT(self->context);
    return 0;
}

static int
call_clear(CallRecord *self)
{
    Py_CLEAR(self->payload);
    Py_CLEAR(self->command);
    Py_CLEAR(self->target);
    Py_CLEAR(self->history);
    Py_CLEAR(self->repeatable);
    Py_CLEAR(self->callbacks);
    Py_CLEAR(self->canceller);
    Py_CLEAR(self->result);
    Py_CLEAR(self->chained_to);
    Py_CLEAR(self->debug_info);
    Py_CLEAR(self->generator);
    Py_CLEAR(self->status);
    Py_CLEAR(self->context);
    return 0;
}

static void
call_dealloc(CallRecord *self)
{
    PyObject_GC_UnTrack(self);
    call_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int
has_callbacks(CallRecord *self)
{
    return self->callbacks != NULL && PyList_GET_SIZE(self->callbacks) > 0;
}

static PyObject *
deferred_method(CallRecord *self, PyObject *name, PyObject *const *args, Py_ssize_t count, PyObject *kwnames)
{
    return fast_base_method(fast_known.deferred, (PyObject *)self, name, args, count, kwnames);
}

static PyObject *
call_addBoth(CallRecord *self, PyObject *const *args, Py_ssize_t count, PyObject *kwnames)
{
    /* The arguments of a coroutine: the callback, a list, the generator, its status and its context. */
    if (count == 5 && args[0] == fast_known.got_result && kwnames == NULL && self->generator == NULL && !self->called
        && !has_callbacks(self) && (PyCoro_CheckExact(args[2]) || PyGen_CheckExact(args[2]))
        && PyContext_CheckExact(args[4])) {
        self->generator = Py_NewRef(args[2]);
        self->status = Py_NewRef(args[3]);
        self->context = Py_NewRef(args[4]);
        return Py_NewRef(self);
    }
    return deferred_method(self, fast_str.addBoth, args, count, kwnames);
}

/* Move the waiting coroutine to the front of the list of callbacks. */
static int
queue_waiter(CallRecord *self)
{
    if (self->generator == NULL) {
        return 0;
    }
    PyObject *generator = self->generator, *status = self->status, *context = self->context, *others = self->callbacks;
    self->generator = self->status = self->context = self->callbacks = NULL;
    PyObject *waiting = Py_BuildValue("[OO]", Py_False, Py_None), *added = NULL;
    if (waiting != NULL) {
        PyObject *args[] = {fast_known.got_result, waiting, generator, status, context};
        added = deferred_method(self, fast_str.addBoth, args, 5, NULL);
    }
    int failed = added == NULL;
    if (!failed && others != NULL) {
        Py_ssize_t end = PyList_GET_SIZE(self->callbacks);
        failed = PyList_SetSlice(self->callbacks, end, end, others) < 0;
    }
    Py_XDECREF(added);
    Py_XDECREF(waiting);
    Py_XDECREF(others);
    Py_DECREF(generator);
    Py_DECREF(status);
    Py_DECREF(context);
    return failed ? -1 : 0;
}

static int
start_callbacks(CallRecord *self, PyObject *result)
{
    PyObject *done = deferred_method(self, fast_str._startRunCallbacks, &result, 1, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Give the result of a coroutine to its own Deferred. */
static int
returned(PyObject *status, PyObject *result)
{
    PyObject *own = PyObject_GetAttr(status, fast_str.deferred);
    if (own == NULL) {
        return -1;
    }
    int failed = fast_tell(own, fast_str.callback, result);
    Py_DECREF(own);
    return failed;
}

/* Run a coroutine up to its next wait, as twisted.internet.defer._inlineCallbacks does. */
static int
resume(PyObject *generator, PyObject *status, PyObject *context, PyObject *result)
{
    PyObject *out = NULL;
    if (PyContext_Enter(context) < 0) {
        return -1;
    }
    PySendResult how = PyIter_Send(generator, result, &out);
    PyObject *error = how == PYGEN_ERROR ? fast_take_error() : NULL;
    int failed = PyContext_Exit(context);
    if (failed) {
        Py_XDECREF(error);
    }
    else if (how == PYGEN_NEXT) {
        CallRecord *next = (CallRecord *)out;
        if (PyObject_TypeCheck(out, &fast_CallRecord) && next->generator == NULL && !next->called
            && !has_callbacks(next)) {
            next->generator = Py_NewRef(generator);
            next->status = Py_NewRef(status);
            next->context = Py_NewRef(context);
            failed = PyObject_SetAttr(status, fast_str.waitingOn, out);
        }
        else {
            PyObject *args[] = {out, generator, status, context};
            PyObject *done = PyObject_Vectorcall(fast_known.go_on, args, 4, NULL);
            failed = done == NULL ? -1 : 0;
            Py_XDECREF(done);
        }
    }
    else if (how == PYGEN_RETURN) {
        failed = returned(status, out);
    }
    else {
        PyObject *args[] = {error, status};
        PyObject *done = PyObject_Vectorcall(fast_known.raised, args, 2, NULL);
        failed = done == NULL ? -1 : 0;
        Py_XDECREF(done);
        Py_DECREF(error);
    }
    Py_XDECREF(out);
    return failed;
}

/* Fire with a result, which is not a Failure in nearly all cases. */
int
fast_fire(CallRecord *self, PyObject *result)
{
    if (self->generator == NULL) {
        return start_callbacks(self, result);
    }
    int general = self->paused || self->called || PyObject_TypeCheck(result, (PyTypeObject *)fast_known.failure);
    if (!general && (general = fast_is_true((PyObject *)self, fast_str.debug)) < 0) {
        return -1;
    }
    if (general) {
        return queue_waiter(self) < 0 ? -1 : start_callbacks(self, result);
    }
    PyObject *generator = self->generator, *status = self->status, *context = self->context;
    self->generator = self->status = self->context = NULL;
    self->called = 1;
    Py_CLEAR(self->canceller);
    Py_XSETREF(self->result, Py_NewRef(result));
    self->running = 1;
    PyObject *left = NULL;
    if (resume(generator, status, context, result) == 0) {
        left = Py_NewRef(Py_None);
    }
    else {
        PyObject *error = fast_take_error();
        left = PyObject_CallOneArg(fast_known.failure, error);
        Py_DECREF(error);
    }
    self->running = 0;
    Py_DECREF(generator);
    Py_DECREF(status);
    Py_DECREF(context);
    if (left == NULL) {
        return -1;
    }
    Py_XSETREF(self->result, left);
    if (has_callbacks(self) || left != Py_None) {
        PyObject *done = deferred_method(self, fast_str._runCallbacks, NULL, 0, NULL);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    return 0;
}

static PyObject *
call_callback(CallRecord *self, PyObject *result)
{
    return fast_fire(self, result) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
call_errback(CallRecord *self, PyObject *const *args, Py_ssize_t count, PyObject *kwnames)
{
    return queue_waiter(self) < 0 ? NULL : deferred_method(self, fast_str.errback, args, count, kwnames);
}

/* One step of a coroutine that waits for this object.  Twisted resumes the coroutine with the result. */
static PySendResult
call_step(CallRecord *self, PyObject *sent, PyObject **out)
{
    *out = NULL;
    if (sent != NULL && sent != Py_None) {
        *out = Py_NewRef(sent);
        return PYGEN_RETURN;
    }
    if (!self->called || self->paused) {
        *out = Py_NewRef(self);
        return PYGEN_NEXT;
    }
    if (self->result == NULL) {
        PyErr_SetString(PyExc_AttributeError, "result");
        return PYGEN_ERROR;
    }
    if (PyObject_TypeCheck(self->result, (PyTypeObject *)fast_known.failure)) {
        Py_XDECREF(PyObject_CallOneArg(fast_known.raise_failure, (PyObject *)self));
        return PYGEN_ERROR;
    }
    *out = Py_NewRef(self->result);
    return PYGEN_RETURN;
}

static PyObject *
call_send(CallRecord *self, PyObject *sent)
{
    PyObject *out;
    PySendResult how = call_step(self, sent, &out);
    if (how == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, out);
        Py_CLEAR(out);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
    }
    return out;
}

static PyObject *
call_next(CallRecord *self)
{
    return call_send(self, Py_None);
}

static PyObject *
get_callbacks(CallRecord *self, void *closure)
{
    if (self->callbacks == NULL && (self->callbacks = PyList_New(0)) == NULL) {
        return NULL;
    }
    return Py_NewRef(self->callbacks);
}

static int
set_callbacks(CallRecord *self, PyObject *value, void *closure)
{
    if (value == NULL || !PyList_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "_callbacks must be a list");
        return -1;
    }
    Py_XSETREF(self->callbacks, Py_NewRef(value));
    return 0;
}

static PyObject *
get_waiter(CallRecord *self, void *closure)
{
    return Py_NewRef(self->generator == NULL ? Py_None : self->generator);
}

#define MEMBER(name, field, kind) {name, kind, offsetof(CallRecord, field), 0, NULL}
static PyMemberDef call_members[] = {
    MEMBER("payload", payload, T_OBJECT),
    MEMBER("command", command, T_OBJECT),
    MEMBER("target", target, T_OBJECT),
    MEMBER("history", history, T_OBJECT),
    MEMBER("repeatable", repeatable, T_OBJECT),
    MEMBER("since", since, T_DOUBLE),
    MEMBER("deadline", deadline, T_DOUBLE),
    MEMBER("_canceller", canceller, T_OBJECT),
    MEMBER("result", result, T_OBJECT_EX),
    MEMBER("_chainedTo", chained_to, T_OBJECT),
    MEMBER("_debugInfo", debug_info, T_OBJECT),
    MEMBER("paused", paused, T_INT),
    MEMBER("called", called, T_BOOL),
    MEMBER("_runningCallbacks", running, T_BOOL),
    {NULL},
};
#undef MEMBER

static PyGetSetDef call_getset[] = {
    {"_callbacks", (getter)get_callbacks, (setter)set_callbacks, NULL, NULL},
    {"_waiter", (getter)get_waiter, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef call_methods[] = {
    {"addBoth", (PyCFunction)(void (*)(void))call_addBoth, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"callback", (PyCFunction)call_callback, METH_O, NULL},
    {"errback", (PyCFunction)(void (*)(void))call_errback, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"send", (PyCFunction)call_send, METH_O, NULL},
    {NULL},
};

/* The object is its own iterator: what it would have to remember is in the Deferred. */
static PyAsyncMethods call_async = {.am_await = PyObject_SelfIter, .am_send = (sendfunc)call_step};

PyTypeObject fast_CallRecord = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.CallRecord",
    .tp_basicsize = sizeof(CallRecord),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)call_dealloc,
    .tp_traverse = (traverseproc)call_traverse,
    .tp_clear = (inquiry)call_clear,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)call_next,
    .tp_as_async = &call_async,
    .tp_methods = call_methods,
    .tp_members = call_members,
    .tp_getset = call_getset,
};
