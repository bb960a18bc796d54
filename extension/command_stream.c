/* The plain path of a connection: `connection.command_stream`. */

#include "fast.h"

typedef struct {
    PyObject_HEAD
    PyObject *unsent, *sent, *timer, *scheduler, *counters, *seconds, *direct, *write_at_once, *next_reply;
    double heard_at, patience;
    Py_ssize_t crowd, cancels_seen, max_pending;
    char ended, paused, draining, mixed, carried_more;
} CommandStream;

#define BURST 1024
/* After a read with at least so many replies, but fewer than the second number, writes wait for the end of the turn. */
#define SOME 8
#define MANY 64

static int
stream_traverse(CommandStream *self, visitproc visit, void *arg)
{
    Py_VISIT(self->unsent);
    Py_VISIT(self->sent);
    Py_VISIT(self->timer);
    Py_VISIT(self->scheduler);
    Py_VISIT(self->counters);
    Py_VISIT(self->seconds);
    Py_VISIT(self->direct);
    Py_VISIT(self->write_at_once);
    Py_VISIT(self->next_reply);
    return 0;
}

static int
stream_clear(CommandStream *self)
{
    Py_CLEAR(self->unsent);
    Py_CLEAR(self->sent);
    Py_CLEAR(self->timer);
    Py_CLEAR(self->scheduler);
    Py_CLEAR(self->counters);
    Py_CLEAR(self->seconds);
    Py_CLEAR(self->direct);
    Py_CLEAR(self->write_at_once);
    Py_CLEAR(self->next_reply);
    return 0;
}

static void
stream_dealloc(CommandStream *self)
{
    PyObject_GC_UnTrack(self);
    stream_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Return the payload of a request; NULL with an exception if it has none. */
static PyObject *
payload_of(PyObject *request)
{
    CallRecord *call = (CallRecord *)request;
    if (PyObject_TypeCheck(request, &fast_CallRecord)) {
        return Py_NewRef(call->payload == NULL ? Py_None : call->payload);
    }
    return PyObject_GetAttr(request, fast_str.payload);
}

/* Return a number, and free it; -1 with an exception after an error. */
static double
double_of(PyObject *value)
{
    double number = value == NULL ? -1.0 : PyFloat_AsDouble(value);
    Py_XDECREF(value);
    return number;
}

/* Set the timer of deadlines, unless it is set to an earlier time. */
static int
sweep_by(PyObject *timer, double deadline)
{
    double at = double_of(PyObject_GetAttr(timer, fast_str.at));
    if (at == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (deadline >= at) {
        return 0;
    }
    PyObject *value = PyFloat_FromDouble(deadline);
    int failed = value == NULL || fast_tell(timer, fast_str.by, value) < 0;
    Py_XDECREF(value);
    return failed ? -1 : 0;
}

static PyObject *
stream_send(CommandStream *self, PyObject *request)
{
    PyObject *unsent = self->unsent, *timer = self->timer, *scheduler = self->scheduler, *sent = NULL;
    if (unsent == NULL || !PyList_CheckExact(unsent) || timer == NULL || scheduler == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the queue has not been initialized");
        return NULL;
    }
    Py_INCREF(unsent);
    Py_INCREF(timer);
    Py_INCREF(scheduler);
    Py_ssize_t queued = PyList_GET_SIZE(unsent);
    int by_fields = PyObject_TypeCheck(request, &fast_CallRecord);
    if ((queued == 0 && fast_tell(scheduler, fast_str.touch, (PyObject *)self) < 0)
        || (queued >= self->crowd && fast_tell((PyObject *)self, fast_str._admit, request) < 0)
        || PyList_Append(unsent, request) < 0) {
        goto done;
    }
    double deadline =
        by_fields ? ((CallRecord *)request)->deadline : double_of(PyObject_GetAttr(request, fast_str.deadline));
    if ((deadline == -1.0 && PyErr_Occurred()) || sweep_by(timer, deadline) < 0) {
        goto done;
    }
    int now = queued >= BURST;
    if (!now) {
        PyObject *payload = payload_of(request);
        if (payload == NULL) {
            goto done;
        }
        now = PyList_CheckExact(payload);
        Py_DECREF(payload);
    }
    if (now && fast_tell(scheduler, fast_str.write, (PyObject *)self) < 0) {
        goto done;
    }
    sent = Py_NewRef(Py_None);
done:
    Py_DECREF(unsent);
    Py_DECREF(timer);
    Py_DECREF(scheduler);
    return sent;
}

/* Join the payloads of requests; None if one of them is not bytes. */
PyObject *
fast_joined(PyObject *module, PyObject *requests)
{
    if (!PyList_CheckExact(requests)) {
        PyErr_SetString(PyExc_TypeError, "a list is needed");
        return NULL;
    }
    Py_ssize_t count = PyList_GET_SIZE(requests), total = 0;
    PyObject *few[64], **payloads = few, *all = NULL;
    Py_ssize_t taken = 0;
    if (count > 64 && (payloads = PyMem_New(PyObject *, count)) == NULL) {
        return PyErr_NoMemory();
    }
    for (; taken < count; taken++) {
        PyObject *payload = payload_of(PyList_GET_ITEM(requests, taken));
        if (payload == NULL) {
            goto done;
        }
        if (!PyBytes_CheckExact(payload)) {
            Py_DECREF(payload);
            all = Py_NewRef(Py_None);
            goto done;
        }
        payloads[taken] = payload;
        total += PyBytes_GET_SIZE(payload);
        if (PyList_GET_SIZE(requests) != count) {
            taken++;
            PyErr_SetString(PyExc_RuntimeError, "the list of requests has changed");
            goto done;
        }
    }
    if (count == 1) {
        all = Py_NewRef(payloads[0]);
        goto done;
    }
    all = PyBytes_FromStringAndSize(NULL, total);
    if (all != NULL) {
        char *end = PyBytes_AS_STRING(all);
        for (Py_ssize_t place = 0; place < count; place++) {
            end = fast_put(end, PyBytes_AS_STRING(payloads[place]), PyBytes_GET_SIZE(payloads[place]));
        }
    }
done:
    while (taken > 0) {
        Py_DECREF(payloads[--taken]);
    }
    if (payloads != few) {
        PyMem_Free(payloads);
    }
    return all;
}

/* Tell whether commands were cancelled since the queue was last searched for them; -1 after an error. */
static int
were_cancelled(CommandStream *self)
{
    PyObject *cancels = PyObject_GetAttr(self->scheduler, fast_str.cancels);
    if (cancels == NULL) {
        return -1;
    }
    Py_ssize_t count = fast_number(cancels, fast_str.count);
    Py_DECREF(cancels);
    return PyErr_Occurred() ? -1 : count != self->cancels_seen;
}

/* Note that silence of the server counts from now. */
static int
listen_from_now(CommandStream *self)
{
    double now = double_of(PyObject_CallNoArgs(self->seconds));
    if (now == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    self->heard_at = now;
    return sweep_by(self->timer, now + self->patience);
}

/* Add to a counter of the node. */
static int
count(PyObject *counters, PyObject *name, Py_ssize_t more)
{
    PyObject *value = PyObject_GetAttr(counters, name), *number = PyLong_FromSsize_t(more);
    PyObject *sum = value == NULL || number == NULL ? NULL : PyNumber_Add(value, number);
    int failed = sum == NULL ? -1 : PyObject_SetAttr(counters, name, sum);
    Py_XDECREF(value);
    Py_XDECREF(number);
    Py_XDECREF(sum);
    return failed;
}

/* Tell whether the transport has no unsent bytes, so that new bytes may overtake nothing; -1 after an error. */
static int
may_write(CommandStream *self)
{
    if (self->direct == NULL || self->direct == Py_None || self->write_at_once == NULL
        || self->write_at_once == Py_None) {
        return 0;
    }
    int unsent = fast_is_true(self->direct, fast_str.dataBuffer);
    if (unsent == 0) {
        unsent = fast_is_true(self->direct, fast_str._tempDataBuffer);
    }
    return unsent < 0 ? -1 : !unsent;
}

/* Write bytes to the socket, and what it does not take to the transport. */
static int
write_bytes(CommandStream *self, PyObject *data)
{
    int direct = may_write(self);
    if (direct < 0) {
        return -1;
    }
    if (!direct) {
        return fast_tell((PyObject *)self, fast_str._write_later, data);
    }
    PyObject *written = PyObject_CallOneArg(self->write_at_once, data);
    if (written == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_OSError)) {
            return -1;
        }
        PyErr_Clear();
    }
    Py_ssize_t size = PyBytes_GET_SIZE(data), done = 0;
    int broken = written != NULL && !PyLong_Check(written);
    if (written != NULL && !broken) {
        done = PyLong_AsSsize_t(written);
    }
    Py_XDECREF(written);
    if (!broken && (done == size || done < 0 || done > size)) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *rest = PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + done, size - done);
    int failed = rest == NULL ? -1 : fast_tell((PyObject *)self, fast_str._write_later, rest);
    Py_XDECREF(rest);
    return failed;
}

/* Move the requests in the queue to those that wait for replies, and write them. */
static int
write_queue(CommandStream *self, PyObject *unsent)
{
    Py_ssize_t pending = PySequence_Size(self->sent), commands = PyList_GET_SIZE(unsent);
    if (pending < 0 || (pending == 0 && listen_from_now(self) < 0)) {
        return -1;
    }
    if (self->mixed) {
        if (fast_tell((PyObject *)self, fast_str._extend_sent, unsent) < 0) {
            return -1;
        }
    }
    else if (fast_tell(self->sent, fast_str.extend, unsent) < 0) {
        return -1;
    }
    else {
        self->carried_more = 1;
    }
    Py_ssize_t room = self->max_pending - PySequence_Size(self->sent);
    self->crowd = room >= BURST ? BURST : room > 0 ? room : 0;
    PyObject *data = fast_joined(NULL, unsent);
    if (data == Py_None) {
        Py_DECREF(data);
        return fast_tell((PyObject *)self, fast_str._write_large, unsent);
    }
    int failed = data == NULL || count(self->counters, fast_str.commands, commands) < 0
                 || count(self->counters, fast_str.bytes_sent, PyBytes_GET_SIZE(data)) < 0
                 || write_bytes(self, data) < 0;
    Py_XDECREF(data);
    return failed ? -1 : 0;
}

static PyObject *
stream_flush(CommandStream *self, PyObject *ignored)
{
    if (self->unsent == NULL || self->sent == NULL || self->scheduler == NULL || self->timer == NULL
        || self->counters == NULL || self->seconds == NULL || !PyList_CheckExact(self->unsent)) {
        PyErr_SetString(PyExc_AttributeError, "the queue has not been initialized");
        return NULL;
    }
    if (PyList_GET_SIZE(self->unsent) == 0 || self->paused || self->ended) {
        Py_RETURN_NONE;
    }
    int cancelled = were_cancelled(self);
    if (cancelled) {
        return cancelled < 0 ? NULL : PyObject_CallMethodNoArgs((PyObject *)self, fast_str._flush_in_python);
    }
    PyObject *unsent = self->unsent;
    if ((self->unsent = PyList_New(0)) == NULL) {
        self->unsent = unsent;
        return NULL;
    }
    int failed = write_queue(self, unsent);
    Py_DECREF(unsent);
    return failed < 0 ? NULL : Py_NewRef(Py_None);
}

/* Let every connection with queued commands write: `WriteScheduler.release`. */
static int
release(PyObject *scheduler, PyObject *touched)
{
    PyObject *none = PyList_New(0);
    int failed = none == NULL ? -1 : PyObject_SetAttr(scheduler, fast_str._touched, none);
    Py_XDECREF(none);
    for (Py_ssize_t place = 0; !failed && place < PyList_GET_SIZE(touched); place++) {
        PyObject *connection = Py_NewRef(PyList_GET_ITEM(touched, place));
        PyObject *done = PyObject_CallMethodNoArgs(connection, fast_str.flush);
        if (done == NULL && !PyErr_ExceptionMatches(PyExc_Exception)) {
            failed = -1;
        }
        else if (done == NULL) {
            PyObject *error = fast_take_error(), *args[] = {scheduler, connection, error};
            done = PyObject_VectorcallMethod(fast_str.failed, args, 3, NULL);
            failed = done == NULL ? -1 : 0;
            Py_DECREF(error);
        }
        Py_XDECREF(done);
        Py_DECREF(connection);
    }
    return failed;
}

/* Let the commands be written that were queued during a read: `WriteScheduler.read_done`. */
static int
read_done(PyObject *scheduler, Py_ssize_t replies)
{
    PyObject *touched = PyObject_GetAttr(scheduler, fast_str._touched);
    int failed = -1;
    if (touched != NULL && !PyList_CheckExact(touched)) {
        PyErr_SetString(PyExc_TypeError, "a list is needed");
    }
    else if (touched != NULL && PyList_GET_SIZE(touched) == 0) {
        failed = 0;
    }
    else if (touched != NULL && replies >= SOME && replies < MANY) {
        PyObject *done = PyObject_CallMethodNoArgs(scheduler, fast_str._schedule);
        failed = done == NULL ? -1 : 0;
        Py_XDECREF(done);
    }
    else if (touched != NULL) {
        failed = release(scheduler, touched);
    }
    Py_XDECREF(touched);
    return failed;
}

/* End the connection because a reply is unreadable, or because its handling raised the pending exception. */
static int
broken(CommandStream *self)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *error = fast_take_error(), *args[] = {(PyObject *)self, error, Py_None};
    PyObject *done = PyObject_VectorcallMethod(fast_str._broken, args, 3, NULL);
    Py_DECREF(error);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Deliver the replies that are complete with `data`: `RESPProtocol._deliver`. */
static int
deliver(CommandStream *self, PyObject *data)
{
    if (self->next_reply == NULL || Py_TYPE(self->next_reply) != &fast_Replies || !PyBytes_CheckExact(data)) {
        return fast_tell((PyObject *)self, fast_str._deliver, data);
    }
    PyObject *replies = Py_NewRef(self->next_reply);
    PyObject *reply = fast_deliver(replies, data);
    int failed;
    if (reply == NULL) {
        failed = broken(self);
    }
    else {
        failed = fast_is_done(replies, reply) ? 0 : fast_tell((PyObject *)self, fast_str._handle, reply);
    }
    Py_XDECREF(reply);
    Py_DECREF(replies);
    return failed;
}

static PyObject *
stream_dataReceived(CommandStream *self, PyObject *data)
{
    if (self->ended) {
        Py_RETURN_NONE;
    }
    PyObject *scheduler = Py_XNewRef(self->scheduler);
    Py_ssize_t size = PyObject_Size(data);
    PyObject *outer = scheduler == NULL ? NULL : PyObject_GetAttr(scheduler, fast_str.held);
    if (outer == NULL || size < 0 || self->sent == NULL || self->counters == NULL || self->seconds == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_AttributeError, "the stream has not been initialized");
        }
        Py_XDECREF(scheduler);
        Py_XDECREF(outer);
        return NULL;
    }
    double now = -1.0;
    Py_ssize_t owed = PySequence_Size(self->sent);
    int failed = owed < 0 || PyObject_SetAttr(scheduler, fast_str.held, Py_True) < 0;
    if (!failed) {
        now = double_of(PyObject_CallNoArgs(self->seconds));
        failed = (now == -1.0 && PyErr_Occurred()) || count(self->counters, fast_str.bytes_received, size) < 0;
    }
    if (!failed) {
        self->heard_at = now;
        failed = deliver(self, data) < 0;
    }
    PyObject *error = failed ? fast_take_error() : NULL;
    /* TLS transports batch their writes themselves. */
    int direct = self->direct != NULL && self->direct != Py_None;
    int failed_again =
        PyObject_SetAttr(scheduler, fast_str.held, outer) < 0
        || (outer == Py_False && read_done(scheduler, direct ? owed - PySequence_Size(self->sent) : 0) < 0);
    Py_DECREF(scheduler);
    Py_DECREF(outer);
    if (error != NULL) {
        if (!failed_again) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        }
        Py_DECREF(error);
        return NULL;
    }
    if (failed_again) {
        return NULL;
    }
    return self->draining ? PyObject_CallMethodNoArgs((PyObject *)self, fast_str._close_if_drained)
                          : Py_NewRef(Py_None);
}

#define MEMBER(name, field, kind) {name, kind, offsetof(CommandStream, field), 0, NULL}
static PyMemberDef stream_members[] = {
    MEMBER("_unsent", unsent, T_OBJECT_EX),
    MEMBER("_sent", sent, T_OBJECT_EX),
    MEMBER("_deadline_timer", timer, T_OBJECT_EX),
    MEMBER("_write_scheduler", scheduler, T_OBJECT_EX),
    MEMBER("counters", counters, T_OBJECT_EX),
    MEMBER("seconds", seconds, T_OBJECT_EX),
    MEMBER("_direct", direct, T_OBJECT),
    MEMBER("_write_at_once", write_at_once, T_OBJECT),
    MEMBER("_next_reply", next_reply, T_OBJECT_EX),
    MEMBER("heard_at", heard_at, T_DOUBLE),
    MEMBER("patience", patience, T_DOUBLE),
    MEMBER("_crowd", crowd, T_PYSSIZET),
    MEMBER("_cancels_seen", cancels_seen, T_PYSSIZET),
    MEMBER("_max_pending", max_pending, T_PYSSIZET),
    MEMBER("ended", ended, T_BOOL),
    MEMBER("_paused", paused, T_BOOL),
    MEMBER("_draining", draining, T_BOOL),
    MEMBER("_mixed", mixed, T_BOOL),
    MEMBER("_carried_more", carried_more, T_BOOL),
    {NULL},
};
#undef MEMBER

static PyMethodDef stream_methods[] = {
    {"send", (PyCFunction)stream_send, METH_O, NULL},
    {"flush", (PyCFunction)stream_flush, METH_NOARGS, NULL},
    {"dataReceived", (PyCFunction)stream_dataReceived, METH_O, NULL},
    {NULL},
};

PyTypeObject fast_CommandStream = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.CommandStream",
    .tp_basicsize = sizeof(CommandStream),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)stream_dealloc,
    .tp_traverse = (traverseproc)stream_traverse,
    .tp_clear = (inquiry)stream_clear,
    .tp_methods = stream_methods,
    .tp_members = stream_members,
};
