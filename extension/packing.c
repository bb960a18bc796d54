/* Packs commands and computes slots: `commands.encoder` and `slots`. */

#include "fast.h"

/* So many words need no memory of their own. */
#define FEW_WORDS 16
/* The longest word of a command whose name is packed from the table, and of any other command: as in `encoder`. */
#define MOST_BYTES 1024
#define LARGE 8192

static unsigned short crc_table[256];

void
fast_make_crc_table(void)
{
    /* CRC-16/XMODEM: https://valkey.io/topics/cluster-spec */
    for (int byte = 0; byte < 256; byte++) {
        unsigned int crc = (unsigned int)byte << 8;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
        }
        crc_table[byte] = (unsigned short)crc;
    }
}

static int
slot_of(const char *key, Py_ssize_t size)
{
    const char *open = memchr(key, '{', (size_t)size);
    if (open != NULL) {
        const char *start = open + 1;
        const char *close = memchr(start, '}', (size_t)(key + size - start));
        if (close != NULL && close > start) {
            key = start;
            size = close - start;
        }
    }
    unsigned int crc = 0;
    for (Py_ssize_t place = 0; place < size; place++) {
        crc = ((crc << 8) ^ crc_table[((crc >> 8) ^ (unsigned char)key[place]) & 255]) & 0xffff;
    }
    return (int)(crc & 16383);
}

static char *
put_number(char *place, Py_ssize_t number)
{
    char digits[24];
    int count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0) {
        *place++ = digits[--count];
    }
    return place;
}

/* The words of a command, as bytes. */
typedef struct {
    Py_ssize_t count;
    const char **bytes;
    Py_ssize_t *sizes;
    PyObject **encoded; /* owns what had to be encoded */
    Py_ssize_t made;
    const char *few_bytes[FEW_WORDS];
    Py_ssize_t few_sizes[FEW_WORDS];
    PyObject *few_encoded[FEW_WORDS];
    void *many;
} Words;

static void
free_words(Words *words)
{
    while (words->made > 0) {
        Py_DECREF(words->encoded[--words->made]);
    }
    PyMem_Free(words->many);
}

/* Look at the words of a tuple or list.  Returns -1 without an exception if one of them is for the Python code: it has
 * another type than str, bytes and int, or is longer than `most`. */
static int
read_words(Words *words, PyObject *sequence, Py_ssize_t most)
{
    PyObject **items = PySequence_Fast_ITEMS(sequence);
    words->count = PySequence_Fast_GET_SIZE(sequence);
    words->bytes = words->few_bytes;
    words->sizes = words->few_sizes;
    words->encoded = words->few_encoded;
    words->made = 0;
    words->many = NULL;
    if (words->count > FEW_WORDS) {
        words->many = PyMem_Malloc((size_t)words->count * (sizeof(char *) + sizeof(Py_ssize_t) + sizeof(PyObject *)));
        if (words->many == NULL) {
            return -1;
        }
        words->bytes = words->many;
        words->sizes = (Py_ssize_t *)(words->bytes + words->count);
        words->encoded = (PyObject **)(words->sizes + words->count);
    }
    for (Py_ssize_t place = 0; place < words->count; place++) {
        PyObject *word = items[place];
        if (PyUnicode_CheckExact(word) && PyUnicode_IS_COMPACT_ASCII(word)) {
            words->bytes[place] = (const char *)PyUnicode_1BYTE_DATA(word);
            words->sizes[place] = PyUnicode_GET_LENGTH(word);
        }
        else {
            if (PyUnicode_CheckExact(word)) {
                word = PyUnicode_GET_LENGTH(word) > most ? NULL : PyUnicode_AsUTF8String(word);
            }
            else if (PyLong_CheckExact(word)) {
                int overflow;
                long long number = PyLong_AsLongLongAndOverflow(word, &overflow);
                char digits[24];
                word = overflow ? NULL : PyBytes_FromStringAndSize(digits, sprintf(digits, "%lld", number));
            }
            else {
                word = PyBytes_CheckExact(word) ? Py_NewRef(word) : NULL;
            }
            if (word == NULL) {
                PyErr_Clear();
                return -1;
            }
            words->encoded[words->made++] = word;
            words->bytes[place] = PyBytes_AS_STRING(word);
            words->sizes[place] = PyBytes_GET_SIZE(word);
        }
        if (words->sizes[place] > most) {
            return -1;
        }
    }
    return 0;
}

/* Pack words.  With a wire name, it replaces the first word. */
static PyObject *
pack_words(const Words *words, PyObject *wire_name)
{
    Py_ssize_t total = 32 + (wire_name != NULL ? PyBytes_GET_SIZE(wire_name) : 0);
    for (Py_ssize_t place = 0; place < words->count; place++) {
        total += words->sizes[place] + 24;
    }
    char few[2048], *buffer = few;
    if (total > (Py_ssize_t)sizeof few && (buffer = PyMem_Malloc((size_t)total)) == NULL) {
        return NULL;
    }
    char *end = buffer;
    *end++ = '*';
    end = put_number(end, words->count);
    if (wire_name != NULL) {
        end = fast_put(end, PyBytes_AS_STRING(wire_name), PyBytes_GET_SIZE(wire_name));
    }
    for (Py_ssize_t place = wire_name != NULL ? 1 : 0; place < words->count; place++) {
        end = fast_put(end, "\r\n$", 3);
        end = put_number(end, words->sizes[place]);
        end = fast_put(end, "\r\n", 2);
        end = fast_put(end, words->bytes[place], words->sizes[place]);
    }
    end = fast_put(end, "\r\n", 2);
    PyObject *packed = PyBytes_FromStringAndSize(buffer, end - buffer);
    if (buffer != few) {
        PyMem_Free(buffer);
    }
    return packed;
}

PyObject *
fast_pack_keyed(PyObject *wire_name, PyObject *args, int *slot)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(args);
    PyObject *key = count >= 2 ? PySequence_Fast_ITEMS(args)[1] : NULL, *packed = NULL;
    if (key == NULL || PyLong_CheckExact(key)) {
        return NULL;
    }
    Words words;
    /* Two and three words without numbers have the table's spelling of the name, as in Python. */
    int by_table = count == 2 || (count == 3 && !PyLong_CheckExact(PySequence_Fast_ITEMS(args)[2]));
    if (read_words(&words, args, by_table ? MOST_BYTES : LARGE) == 0) {
        packed = pack_words(&words, by_table ? wire_name : NULL);
        *slot = slot_of(words.bytes[1], words.sizes[1]);
    }
    free_words(&words);
    return packed;
}

static int
is_sequence(PyObject *object)
{
    return PyTuple_CheckExact(object) || PyList_CheckExact(object);
}

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
    if (PyVectorcall_NARGS(flags) == 2 && kwnames == NULL && PyBytes_CheckExact(args[0]) && is_sequence(args[1])) {
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
    if (PyVectorcall_NARGS(flags) == 1 && kwnames == NULL && is_sequence(args[0])
        && PySequence_Fast_GET_SIZE(args[0]) > 0) {
        Words words;
        PyObject *packed = read_words(&words, args[0], LARGE) == 0 ? pack_words(&words, NULL) : NULL;
        free_words(&words);
        if (packed != NULL) {
            return packed;
        }
    }
    return leave_to_python(self, args, flags, kwnames);
}

static PyObject *
shortcut_slot(Shortcut *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    if (PyVectorcall_NARGS(flags) == 1 && kwnames == NULL) {
        PyObject *key = args[0];
        if (PyBytes_CheckExact(key)) {
            return PyLong_FromLong(slot_of(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)));
        }
        if (PyUnicode_CheckExact(key) && PyUnicode_IS_COMPACT_ASCII(key)) {
            return PyLong_FromLong(slot_of((const char *)PyUnicode_1BYTE_DATA(key), PyUnicode_GET_LENGTH(key)));
        }
    }
    return leave_to_python(self, args, flags, kwnames);
}

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
