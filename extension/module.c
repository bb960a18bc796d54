/* The module, and what its parts share. */

#include "fast.h"

Known fast_known;
Names fast_str;
PyTypeObject *fast_call_class, *fast_batch_class;
PyObject *fast_other_classes, *fast_no_bytes;

int
fast_is_true(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL) {
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth;
}

Py_ssize_t
fast_number(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    Py_ssize_t number = value == NULL ? -1 : PyLong_AsSsize_t(value);
    Py_XDECREF(value);
    return number;
}

int
fast_tell(PyObject *object, PyObject *method, PyObject *argument)
{
    PyObject *done = PyObject_CallMethodOneArg(object, method, argument);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

PyObject *
fast_base_method(PyObject *base, PyObject *self, PyObject *name, PyObject *const *args, Py_ssize_t count,
                 PyObject *kwnames)
{
    PyObject *function = PyObject_GetAttr(base, name);
    if (function == NULL) {
        return NULL;
    }
    PyObject *result = NULL, *few[8], **all = few;
    Py_ssize_t total = count + (kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0);
    if (total + 1 > 8 && (all = PyMem_New(PyObject *, total + 1)) == NULL) {
        PyErr_NoMemory();
    }
    else {
        all[0] = self;
        for (Py_ssize_t place = 0; place < total; place++) {
            all[place + 1] = args[place];
        }
        result = PyObject_Vectorcall(function, all, count + 1, kwnames);
    }
    if (all != few) {
        PyMem_Free(all);
    }
    Py_DECREF(function);
    return result;
}

PyObject *
fast_take_error(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace != NULL) {
        PyException_SetTraceback(value, trace);
        Py_DECREF(trace);
    }
    Py_XDECREF(type);
    return value;
#endif
}

int
fast_clear_error(void)
{
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

static PyObject *
configure(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"deferred", "failure", "got_result", "go_on", "raised", "raise_failure", NULL};
    PyObject *deferred, *failure, *got_result, *go_on, *raised, *raise_failure;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!OOOO", names, &PyType_Type, &deferred, &PyType_Type, &failure,
                                     &got_result, &go_on, &raised, &raise_failure)) {
        return NULL;
    }
    Py_XSETREF(fast_known.deferred, Py_NewRef(deferred));
    Py_XSETREF(fast_known.failure, Py_NewRef(failure));
    Py_XSETREF(fast_known.got_result, Py_NewRef(got_result));
    Py_XSETREF(fast_known.go_on, Py_NewRef(go_on));
    Py_XSETREF(fast_known.raised, Py_NewRef(raised));
    Py_XSETREF(fast_known.raise_failure, Py_NewRef(raise_failure));
    Py_RETURN_NONE;
}

static PyObject *
use_classes(PyObject *module, PyObject *args)
{
    PyTypeObject *call, *batch;
    if (!PyArg_ParseTuple(args, "O!O!", &PyType_Type, &call, &PyType_Type, &batch)) {
        return NULL;
    }
    if (!PyType_IsSubtype(call, &fast_CallRecord)) {
        PyErr_SetString(PyExc_TypeError, "the calls must be CallRecords");
        return NULL;
    }
    Py_XSETREF(fast_call_class, (PyTypeObject *)Py_NewRef(call));
    Py_XSETREF(fast_batch_class, (PyTypeObject *)Py_NewRef(batch));
    Py_RETURN_NONE;
}

static PyObject *
use_also(PyObject *module, PyObject *class)
{
    return PySet_Add(fast_other_classes, class) < 0 ? NULL : Py_NewRef(class);
}

static PyObject *
use_observed(PyObject *module, PyObject *class)
{
    if (!PyType_Check(class) || !PyType_IsSubtype((PyTypeObject *)class, &fast_ObservedRecord)) {
        PyErr_SetString(PyExc_TypeError, "the observed calls must be ObservedRecords");
        return NULL;
    }
    Py_XSETREF(fast_observed_class, (PyTypeObject *)Py_NewRef(class));
    Py_RETURN_NONE;
}

static PyObject *
use_reply(PyObject *module, PyObject *class)
{
    if (!PyType_Check(class)) {
        PyErr_SetString(PyExc_TypeError, "a class is needed");
        return NULL;
    }
    Py_XSETREF(fast_reply_class, (PyTypeObject *)Py_NewRef(class));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"configure", (PyCFunction)(void (*)(void))configure, METH_VARARGS | METH_KEYWORDS, NULL},
    {"joined", fast_joined, METH_O, NULL},
    {"reply_record", fast_reply_record, METH_VARARGS, NULL},
    {"use_also", use_also, METH_O, NULL},
    {"use_reply", use_reply, METH_O, NULL},
    {"use_observed", use_observed, METH_O, NULL},
    {"use_classes", use_classes, METH_VARARGS, NULL},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "txvalkeycluster._fast",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__fast(void)
{
    fast_make_crc_table();
#define INTERN(name)                                                                                                   \
    if ((fast_str.name = PyUnicode_InternFromString(#name)) == NULL) {                                                 \
        return NULL;                                                                                                   \
    }
    FAST_NAMES(INTERN)
#undef INTERN
    if ((fast_no_bytes = PyBytes_FromStringAndSize(NULL, 0)) == NULL
        || (fast_other_classes = PySet_New(NULL)) == NULL) {
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    PyTypeObject *types[] = {&fast_CallRecord, &fast_ObservedRecord, &fast_Times,       &fast_TimeRecorder,
                             &fast_Shortcut,   &fast_CommandStream,  &fast_Reader,      &fast_Replies,
                             &fast_Messages,   &fast_Executor,       &fast_ReplySender, &fast_CommandList};
    for (size_t place = 0; module != NULL && place < sizeof types / sizeof *types; place++) {
        if (PyModule_AddType(module, types[place]) < 0) {
            Py_CLEAR(module);
        }
    }
    return module;
}
