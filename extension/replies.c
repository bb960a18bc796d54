/* Gives replies to plain commands and to batches: the loop of `connection.protocol`. */

#include "fast.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    Reader *reader;
    PyObject *sent, *popleft, *decode, *unusual;
} Replies;

static int
replies_traverse(Replies *self, visitproc visit, void *arg)
{
    Py_VISIT(self->reader);
    Py_VISIT(self->sent);
    Py_VISIT(self->popleft);
    Py_VISIT(self->decode);
    Py_VISIT(self->unusual);
    return 0;
}

static int
replies_clear(Replies *self)
{
    Py_CLEAR(self->reader);
    Py_CLEAR(self->sent);
    Py_CLEAR(self->popleft);
    Py_CLEAR(self->decode);
    Py_CLEAR(self->unusual);
    return 0;
}

static void
replies_dealloc(Replies *self)
{
    PyObject_GC_UnTrack(self);
    replies_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Return the first request in the queue (borrowed, the queue keeps it); NULL without an exception if it is empty. */
static PyObject *
first_of(PyObject *sent)
{
    Py_ssize_t count = PySequence_Size(sent);
    if (count <= 0) {
        return NULL;
    }
    PyObject *first = PySequence_GetItem(sent, 0);
    Py_XDECREF(first);
    return first;
}

/* Remove the first request from the queue, and return it. */
static PyObject *
take_first(Replies *self)
{
    return PyObject_CallNoArgs(self->popleft);
}

/* Tell whether a reply is neither an error nor a push. */
static int
is_plain(Replies *self, PyObject *reply)
{
    return PyBytes_CheckExact(reply) || PySet_Contains(self->unusual, (PyObject *)Py_TYPE(reply)) == 0;
}

/* Return the decoded reply; NULL if the Python code must handle an error. */
static PyObject *
decoded(Replies *self, PyObject *reply)
{
    if (self->decode == Py_None || PyLong_CheckExact(reply) || reply == Py_None) {
        return Py_NewRef(reply);
    }
    return PyObject_CallOneArg(self->decode, reply);
}

/* Tell whether a batch still expects the next reply.  The codec of an application can do anything, even end it. */
static int
is_still_first(Replies *self, PyObject *batch, PyObject *replies)
{
    if (self->decode == Py_None) {
        return 1;
    }
    PyObject *now = PyObject_GetAttr(batch, fast_str._replies);
    Py_XDECREF(now);
    return now == replies && first_of(self->sent) == batch;
}

/* Give replies to a batch, without the last one, which ends it.
 *
 * Takes `reply` and returns the first reply that is not such a reply. */
static PyObject *
fill_batch(Replies *self, PyObject *batch, PyObject *reply)
{
    PyObject *replies = NULL, *due = NULL, *history = PyObject_GetAttr(batch, fast_str.history);
    int plain = history == Py_None;
    Py_XDECREF(history);
    if (!plain || (replies = PyObject_GetAttr(batch, fast_str._replies)) == NULL
        || (due = PyObject_GetAttr(batch, fast_str._due)) == NULL || !PyList_CheckExact(replies)
        || PyObject_SetAttr(batch, fast_str.payload, fast_no_bytes) < 0) {
        goto done;
    }
    Py_ssize_t most = PyLong_AsSsize_t(due) - 1;
    while (PyList_GET_SIZE(replies) < most && is_plain(self, reply)) {
        PyObject *value = decoded(self, reply);
        if (value == NULL || !is_still_first(self, batch, replies)) {
            Py_XDECREF(value);
            break;
        }
        int failed = PyList_Append(replies, value) < 0;
        Py_DECREF(value);
        PyObject *taken = failed ? NULL : take_first(self);
        Py_DECREF(reply);
        reply = NULL;
        if (taken == NULL) {
            break;
        }
        Py_DECREF(taken);
        reply = fast_next_reply(self->reader);
        if (reply == NULL || reply == self->reader->nothing) {
            break;
        }
    }
done:
    Py_XDECREF(replies);
    Py_XDECREF(due);
    return reply;
}

/* Put a request back whose reply could not be decoded.  The Python code decodes it again, and handles the error. */
static int
give_back(Replies *self, PyObject *request)
{
    return fast_clear_error() < 0 ? -1 : fast_tell(self->sent, fast_str.appendleft, request);
}

/* Give a reply to a reply of asyncio.  Returns 0 if the Python code has to do it, and -1 after an error. */
static int
answer_asyncio(Replies *self, PyObject *first, PyObject *reply)
{
    int state = fast_reply_state(first);
    if (state < 0) {
        return 0;
    }
    PyObject *request = take_first(self), *value = NULL;
    int answered = request == NULL ? -1 : 1;
    if (request != NULL && state == 1) {
        value = decoded(self, reply);
        answered = value == NULL ? give_back(self, request) : fast_answer_reply(request, value) < 0 ? -1 : 1;
    }
    Py_XDECREF(request);
    Py_XDECREF(value);
    return answered;
}

/* Give a reply to a request of another class.  Returns 0 if the Python code has to do it, and -1 after an error. */
static int
answer_other(Replies *self, PyObject *request, PyObject *reply)
{
    PyObject *history = NULL, *value = NULL, *taken = NULL;
    int answered = 0;
    Py_INCREF(request);
    if (fast_is_true(request, fast_str.called) != 0
        || (history = PyObject_GetAttr(request, fast_str.history)) != Py_None) {
        answered = fast_clear_error();
        goto done;
    }
    answered = -1;
    if ((taken = take_first(self)) == NULL) {
        goto done;
    }
    if ((value = decoded(self, reply)) == NULL) {
        answered = give_back(self, request);
        goto done;
    }
    if (PyObject_SetAttr(request, fast_str.payload, fast_no_bytes) == 0
        && fast_tell(request, fast_str.callback, value) == 0) {
        answered = 1;
    }
done:
    Py_DECREF(request);
    Py_XDECREF(history);
    Py_XDECREF(value);
    Py_XDECREF(taken);
    return answered;
}

/* Deliver replies, and return the first one that the Python code has to handle. */
static PyObject *
deliver(Replies *self)
{
    for (;;) {
        PyObject *reply = fast_next_reply(self->reader);
        if (reply == NULL || reply == self->reader->nothing) {
            return reply;
        }
        if (!is_plain(self, reply)) {
            return reply;
        }
        PyObject *first = first_of(self->sent);
        if (first == NULL) {
            return reply;
        }
        if (Py_TYPE(first) == fast_batch_class) {
            int called = fast_is_true(first, fast_str.called);
            if (called == 0) {
                Py_INCREF(first);
                reply = fill_batch(self, first, reply);
                Py_DECREF(first);
                /* The Python code decodes it again, and finds the error again. */
                if (reply != NULL && fast_clear_error() < 0) {
                    Py_CLEAR(reply);
                }
            }
            return reply;
        }
        int observed = Py_TYPE(first) == fast_observed_class;
        if (Py_TYPE(first) != fast_call_class && !observed) {
            if (Py_TYPE(first) != fast_reply_class
                && PySet_Contains(fast_other_classes, (PyObject *)Py_TYPE(first)) != 1) {
                return reply;
            }
            int answered = Py_TYPE(first) == fast_reply_class ? answer_asyncio(self, first, reply)
                                                              : answer_other(self, first, reply);
            if (answered == 0) {
                return reply;
            }
            Py_DECREF(reply);
            if (answered < 0) {
                return NULL;
            }
            continue;
        }
        CallRecord *call = (CallRecord *)first;
        if (!call->called && call->history != NULL && call->history != Py_None) {
            return reply;
        }
        if ((call = (CallRecord *)take_first(self)) == NULL) {
            Py_DECREF(reply);
            return NULL;
        }
        int failed = 0;
        if (!call->called) {
            PyObject *value = decoded(self, reply);
            if (value == NULL) {
                int failed_again = give_back(self, (PyObject *)call) < 0;
                Py_DECREF(call);
                if (failed_again) {
                    Py_CLEAR(reply);
                }
                return reply;
            }
            Py_XSETREF(call->payload, Py_NewRef(fast_no_bytes));
            int noted = observed ? fast_note_time((ObservedRecord *)call) : 1;
            failed = noted > 0    ? fast_fire(call, value)
                     : noted == 0 ? fast_tell((PyObject *)call, fast_str.callback, value)
                                  : -1;
            Py_DECREF(value);
        }
        Py_DECREF(reply);
        Py_DECREF(call);
        if (failed) {
            return NULL;
        }
    }
}

static PyObject *
replies_call(Replies *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    return deliver(self);
}

PyObject *
fast_deliver(PyObject *replies, PyObject *data)
{
    Replies *self = (Replies *)replies;
    return fast_feed(self->reader, data) < 0 ? NULL : deliver(self);
}

int
fast_is_done(PyObject *replies, PyObject *reply)
{
    Replies *self = (Replies *)replies;
    PyObject *first = reply == self->reader->nothing ? first_of(self->sent) : NULL;
    if (reply != self->reader->nothing) {
        return 0;
    }
    /* The next replies of a batch can come much later. */
    return first == NULL || PyObject_TypeCheck(first, &fast_CallRecord) || Py_TYPE(first) == fast_reply_class;
}

static int
replies_init(Replies *self, PyObject *args, PyObject *keywords)
{
    PyObject *reader, *sent, *decode, *unusual;
    if (!PyArg_ParseTuple(args, "O!OOO!", &fast_Reader, &reader, &sent, &decode, &PyFrozenSet_Type, &unusual)) {
        return -1;
    }
    PyObject *popleft = PyObject_GetAttr(sent, fast_str.popleft);
    if (popleft == NULL) {
        return -1;
    }
    Py_XSETREF(self->reader, (Reader *)Py_NewRef(reader));
    Py_XSETREF(self->sent, Py_NewRef(sent));
    Py_XSETREF(self->popleft, popleft);
    Py_XSETREF(self->decode, Py_NewRef(decode));
    Py_XSETREF(self->unusual, Py_NewRef(unusual));
    self->vectorcall = (vectorcallfunc)replies_call;
    return 0;
}

PyTypeObject fast_Replies = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.Replies",
    .tp_basicsize = sizeof(Replies),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Replies, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)replies_init,
    .tp_dealloc = (destructor)replies_dealloc,
    .tp_traverse = (traverseproc)replies_traverse,
    .tp_clear = (inquiry)replies_clear,
};
