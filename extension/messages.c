/* Gives messages to subscriptions: the loop of `connection.subscriber_protocol`. */

#include "fast.h"

/* Delivers the messages of subscriptions. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    Reader *reader;
    PyTypeObject *message;
    PyObject *deliveries;
    Py_ssize_t count; /* how many it has delivered */
} Messages;

static int
messages_traverse(Messages *self, visitproc visit, void *arg)
{
    Py_VISIT(self->reader);
    Py_VISIT(self->message);
    Py_VISIT(self->deliveries);
    return 0;
}

static int
messages_clear(Messages *self)
{
    Py_CLEAR(self->reader);
    Py_CLEAR(self->message);
    Py_CLEAR(self->deliveries);
    return 0;
}

static void
messages_dealloc(Messages *self)
{
    PyObject_GC_UnTrack(self);
    messages_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Call the function that gets the messages of a subscription.  Its exceptions are the subscription's. */
static int
give_message(PyObject *part, PyObject *sink, PyObject *message)
{
    PyObject *done = PyObject_CallOneArg(sink, message);
    if (done == NULL) {
        PyObject *error = fast_take_error(), *outer = PyErr_GetHandledException();
        PyErr_SetHandledException(error);
        done = PyObject_CallMethodNoArgs(part, fast_str.failed);
        PyErr_SetHandledException(outer);
        Py_XDECREF(outer);
        Py_DECREF(error);
    }
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Deliver a reply if it is a message.  Returns 0 if it is for the Python code, and -1 after an error. */
static int
deliver_message(Messages *self, PyObject *reply)
{
    if (!(PyList_CheckExact(reply) || Py_TYPE(reply) == (PyTypeObject *)self->reader->push)
        || PyList_GET_SIZE(reply) < 3) {
        return 0;
    }
    PyObject *by_name = PyDict_GetItemWithError(self->deliveries, PyList_GET_ITEM(reply, 0));
    PyObject *part = by_name != NULL && PyDict_CheckExact(by_name)
                         ? PyDict_GetItemWithError(by_name, PyList_GET_ITEM(reply, 1))
                         : NULL;
    if (part == NULL) {
        return fast_clear_error();
    }
    Py_INCREF(part);
    PyObject *sink = PyObject_GetAttr(part, fast_str.sink), *text = NULL, *message = NULL;
    int delivered = sink == Py_None ? 0 : -1;
    if (sink != NULL && sink != Py_None && (text = PyObject_GetAttr(part, fast_str.text)) != NULL
        && (message = self->message->tp_alloc(self->message, 4)) != NULL) {
        PyTuple_SET_ITEM(message, 0, Py_NewRef(text));
        PyTuple_SET_ITEM(message, 1, Py_NewRef(PyList_GET_ITEM(reply, 2)));
        PyTuple_SET_ITEM(message, 2, Py_NewRef(Py_None));
        PyTuple_SET_ITEM(message, 3, Py_NewRef(Py_None));
        self->count++;
        delivered = give_message(part, sink, message) < 0 ? -1 : 1;
    }
    Py_DECREF(part);
    Py_XDECREF(sink);
    Py_XDECREF(text);
    Py_XDECREF(message);
    return delivered;
}

/* Deliver messages, and return the first reply that the Python code has to handle. */
static PyObject *
messages_call(Messages *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    for (;;) {
        PyObject *reply = fast_next_reply(self->reader);
        if (reply == NULL || reply == self->reader->nothing) {
            return reply;
        }
        int delivered = deliver_message(self, reply);
        if (delivered == 0) {
            return reply;
        }
        Py_DECREF(reply);
        if (delivered < 0) {
            return NULL;
        }
    }
}

static int
messages_init(Messages *self, PyObject *args, PyObject *keywords)
{
    PyObject *reader, *message, *deliveries;
    if (!PyArg_ParseTuple(args, "O!O!O!", &fast_Reader, &reader, &PyType_Type, &message, &PyDict_Type, &deliveries)) {
        return -1;
    }
    if (!PyType_IsSubtype((PyTypeObject *)message, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "messages must be tuples");
        return -1;
    }
    Py_XSETREF(self->reader, (Reader *)Py_NewRef(reader));
    Py_XSETREF(self->message, (PyTypeObject *)Py_NewRef(message));
    Py_XSETREF(self->deliveries, Py_NewRef(deliveries));
    self->vectorcall = (vectorcallfunc)messages_call;
    return 0;
}

static PyMemberDef messages_members[] = {
    {"count", T_PYSSIZET, offsetof(Messages, count), 0, NULL},
    {NULL},
};

PyTypeObject fast_Messages = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.Messages",
    .tp_basicsize = sizeof(Messages),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Messages, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)messages_init,
    .tp_dealloc = (destructor)messages_dealloc,
    .tp_traverse = (traverseproc)messages_traverse,
    .tp_clear = (inquiry)messages_clear,
    .tp_members = messages_members,
};
