/* The queued commands of a pipeline: `pipeline.CommandList`. */

#include "fast.h"

typedef struct {
    PyObject_HEAD
    PyObject *calls;
} CommandList;

static int
list_traverse(CommandList *self, visitproc visit, void *arg)
{
    Py_VISIT(self->calls);
    return 0;
}

static int
list_clear(CommandList *self)
{
    Py_CLEAR(self->calls);
    return 0;
}

static void
list_dealloc(CommandList *self)
{
    PyObject_GC_UnTrack(self);
    list_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
list_add(CommandList *self, PyObject *args)
{
    if (self->calls == NULL || !PyList_CheckExact(self->calls)) {
        PyErr_SetString(PyExc_AttributeError, "_calls");
        return NULL;
    }
    return PyList_Append(self->calls, args) < 0 ? NULL : Py_NewRef(self);
}

PyDoc_STRVAR(add_doc, "add($self, /, *args)\n--\n\n"
                      "Queue any command; its result is the reply as the server sends it.");

static PyMethodDef list_methods[] = {
    {"add", (PyCFunction)list_add, METH_VARARGS, add_doc},
    {NULL},
};

static PyMemberDef list_members[] = {
    {"_calls", T_OBJECT_EX, offsetof(CommandList, calls), 0, NULL},
    {NULL},
};

PyTypeObject fast_CommandList = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.CommandList",
    .tp_basicsize = sizeof(CommandList),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)list_dealloc,
    .tp_traverse = (traverseproc)list_traverse,
    .tp_clear = (inquiry)list_clear,
    .tp_methods = list_methods,
    .tp_members = list_members,
};
