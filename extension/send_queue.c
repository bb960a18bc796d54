/* The commands that a connection has not written yet: `connection.send_queue`. */

#include "fast.h"

typedef struct {
    PyObject_HEAD
    PyObject *unsent, *timer, *scheduler;
    Py_ssize_t crowd;
} SendQueue;

#define BURST 1024

static int
queue_traverse(SendQueue *self, visitproc visit, void *arg)
{
    Py_VISIT(self->unsent);
    Py_VISIT(self->timer);
    Py_VISIT(self->scheduler);
    return 0;
}

static int
queue_clear(SendQueue *self)
{
    Py_CLEAR(self->unsent);
    Py_CLEAR(self->timer);
    Py_CLEAR(self->scheduler);
    return 0;
}

static void
queue_dealloc(SendQueue *self)
{
    PyObject_GC_UnTrack(self);
    queue_clear(self);
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

static double
number_attribute(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL) {
        return -1.0;
    }
    double number = PyFloat_AsDouble(value);
    Py_DECREF(value);
    return number;
}

static PyObject *
queue_send(SendQueue *self, PyObject *request)
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
    double at = number_attribute(timer, fast_str.at);
    if (at == -1.0 && PyErr_Occurred()) {
        goto done;
    }
    double deadline = by_fields ? ((CallRecord *)request)->deadline : number_attribute(request, fast_str.deadline);
    if (deadline == -1.0 && PyErr_Occurred()) {
        goto done;
    }
    if (deadline < at) {
        PyObject *value = PyFloat_FromDouble(deadline);
        int failed = value == NULL || fast_tell(timer, fast_str.by, value) < 0;
        Py_XDECREF(value);
        if (failed) {
            goto done;
        }
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

static PyMemberDef queue_members[] = {
    {"_unsent", T_OBJECT_EX, offsetof(SendQueue, unsent), 0, NULL},
    {"_deadline_timer", T_OBJECT_EX, offsetof(SendQueue, timer), 0, NULL},
    {"_write_scheduler", T_OBJECT_EX, offsetof(SendQueue, scheduler), 0, NULL},
    {"_crowd", T_PYSSIZET, offsetof(SendQueue, crowd), 0, NULL},
    {NULL},
};

static PyMethodDef queue_methods[] = {
    {"send", (PyCFunction)queue_send, METH_O, NULL},
    {NULL},
};

PyTypeObject fast_SendQueue = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.SendQueue",
    .tp_basicsize = sizeof(SendQueue),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)queue_dealloc,
    .tp_traverse = (traverseproc)queue_traverse,
    .tp_clear = (inquiry)queue_clear,
    .tp_methods = queue_methods,
    .tp_members = queue_members,
};
