/* Functions in C that leave to Python what they cannot do. */

#include "fast.h"

/* A function in C that leaves what it cannot do to a function in Python. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *python;
} Shortcut;

static PyObject *
leave_to_python(Shortcut *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    return PyErr_Occurred() ? NULL : PyObject_Vectorcall(self->python, args, PyVectorcall_NARGS(flags), kwnames);
}

static PyObject *
shortcut_pack_keyed(Shortcut *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    if (PyVectorcall_NARGS(flags) == 2 && kwnames == NULL && PyBytes_CheckExact(args[0]) && fast_is_sequence(args[1])) {
        int slot;
        PyObject *packed = fast_pack_keyed(args[0], args[1], &slot);
        if (packed != NULL) {
            return Py_BuildValue("(iN)", slot, packed);
        }
    }
    return leave_to_python(self, args, flags, kwnames);
}

static PyObject *
shortcut_pack(Shortcut *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    if (PyVectorcall_NARGS(flags) == 1 && kwnames == NULL && fast_is_sequence(args[0])
        && PySequence_Fast_GET_SIZE(args[0]) > 0) {
        Words words;
        PyObject *packed = fast_read_words(&words, args[0], FAST_LARGE) == 0 ? fast_pack_words(&words, NULL) : NULL;
        fast_free_words(&words);
        if (packed != NULL) {
            return packed;
        }
    }
    return leave_to_python(self, args, flags, kwnames);
}

/* Return the slot of a key; NULL without an exception if it is for the Python code. */
static PyObject *
slot_of_word(PyObject *key)
{
    if (PyBytes_CheckExact(key)) {
        return PyLong_FromLong(fast_slot(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)));
    }
    if (PyUnicode_CheckExact(key) && PyUnicode_IS_COMPACT_ASCII(key)) {
        return PyLong_FromLong(fast_slot((const char *)PyUnicode_1BYTE_DATA(key), PyUnicode_GET_LENGTH(key)));
    }
    return NULL;
}

static PyObject *
shortcut_slot(Shortcut *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    PyObject *slot = PyVectorcall_NARGS(flags) == 1 && kwnames == NULL ? slot_of_word(args[0]) : NULL;
    return slot != NULL ? slot : leave_to_python(self, args, flags, kwnames);
}

/* argument_slots(args, places), where the places are a range. */
static PyObject *
shortcut_slots(Shortcut *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    PyObject *slots = NULL;
    if (PyVectorcall_NARGS(flags) == 2 && kwnames == NULL && fast_is_sequence(args[0]) && PyRange_Check(args[1])) {
        Py_ssize_t start = fast_number(args[1], fast_str.start), step = fast_number(args[1], fast_str.step);
        Py_ssize_t stop = fast_number(args[1], fast_str.stop);
        slots = step > 0 && start >= 0 && stop <= PySequence_Fast_GET_SIZE(args[0]) ? PyList_New(0) : NULL;
        for (Py_ssize_t place = start; slots != NULL && place < stop; place += step) {
            PyObject *slot = slot_of_word(PySequence_Fast_ITEMS(args[0])[place]);
            if (slot == NULL || PyList_Append(slots, slot) < 0) {
                Py_CLEAR(slots);
            }
            Py_XDECREF(slot);
        }
    }
    return slots != NULL ? slots : leave_to_python(self, args, flags, kwnames);
}

/* Wrap a function with so many arguments. */
#define SHORTCUT(name, count)                                                                                          \
    static PyObject *shortcut_##name(Shortcut *self, PyObject *const *args, size_t flags, PyObject *kwnames)           \
    {                                                                                                                  \
        PyObject *done = PyVectorcall_NARGS(flags) == count && kwnames == NULL ? fast_##name(args) : NULL;             \
        return done != NULL ? done : leave_to_python(self, args, flags, kwnames);                                      \
    }

SHORTCUT(take, 6)
SHORTCUT(split, 4)
SHORTCUT(store, 3)
SHORTCUT(merge, 3)
SHORTCUT(take_plain, 4)
SHORTCUT(take_simple, 3)
SHORTCUT(add_keyed, 4)

static int
shortcut_init(Shortcut *self, PyObject *args, PyObject *keywords)
{
    static const struct {
        const char *name;
        void *function;
    } functions[] = {
        {"pack_keyed", shortcut_pack_keyed},
        {"pack", shortcut_pack},
        {"key_slot", shortcut_slot},
        {"argument_slot", shortcut_slot},
        {"take", shortcut_take},
        {"split", shortcut_split},
        {"store", shortcut_store},
        {"merge", shortcut_merge},
        {"argument_slots", shortcut_slots},
        {"take_plain", shortcut_take_plain},
        {"take_simple", shortcut_take_simple},
        {"add_keyed", shortcut_add_keyed},
    };
    const char *name;
    PyObject *python;
    if (!PyArg_ParseTuple(args, "sO", &name, &python)) {
        return -1;
    }
    for (size_t place = 0; place < sizeof functions / sizeof *functions; place++) {
        if (strcmp(name, functions[place].name) == 0) {
            Py_XSETREF(self->python, Py_NewRef(python));
            self->vectorcall = (vectorcallfunc)functions[place].function;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "there is no function %s", name);
    return -1;
}

static void
shortcut_dealloc(Shortcut *self)
{
    Py_XDECREF(self->python);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef shortcut_members[] = {
    {"__wrapped__", T_OBJECT_EX, offsetof(Shortcut, python), READONLY, NULL},
    {NULL},
};

PyTypeObject fast_Shortcut = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.Shortcut",
    .tp_basicsize = sizeof(Shortcut),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Shortcut, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)shortcut_init,
    .tp_dealloc = (destructor)shortcut_dealloc,
    .tp_members = shortcut_members,
};
