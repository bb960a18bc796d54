/* Reads replies: hiredis. */

#include "fast.h"

/* An incomplete reply that is longer than this is hiredis'. */
#define MOST_INCOMPLETE 16384
#define MOST_ELEMENTS 4096
#define MOST_DEPTH 3

typedef enum { DONE, INCOMPLETE, NOT_SIMPLE, FAILED } Parsed;

static int
reader_traverse(Reader *self, visitproc visit, void *arg)
{
    Py_VISIT(self->feed);
    Py_VISIT(self->gets);
    Py_VISIT(self->has_data);
    Py_VISIT(self->nothing);
    Py_VISIT(self->push);
    return 0;
}

static int
reader_clear(Reader *self)
{
    Py_CLEAR(self->feed);
    Py_CLEAR(self->gets);
    Py_CLEAR(self->has_data);
    Py_CLEAR(self->nothing);
    Py_CLEAR(self->push);
    return 0;
}

static void
reader_dealloc(Reader *self)
{
    PyObject_GC_UnTrack(self);
    reader_clear(self);
    Py_XDECREF(self->buffer);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Read the number after the type, and the line break. */
static Parsed
parse_number(const char **place, const char *end, long long *number)
{
    const char *at = *place;
    int negative = at < end && *at == '-', digits = 0;
    long long value = 0;
    for (at += negative; at < end && *at >= '0' && *at <= '9'; at++) {
        if (++digits > 18) {
            return NOT_SIMPLE;
        }
        value = value * 10 + (*at - '0');
    }
    if (at + 2 > end) {
        return at == end || *at == '\r' ? INCOMPLETE : NOT_SIMPLE;
    }
    if (digits == 0 || at[0] != '\r' || at[1] != '\n') {
        return NOT_SIMPLE;
    }
    *number = negative ? -value : value;
    *place = at + 2;
    return DONE;
}

static Parsed parse(Reader *self, const char **place, const char *end, int depth, PyObject **out);

/* Read `count` replies into a list; for a map, into a dict. */
static Parsed
parse_elements(Reader *self, char kind, long long count, const char **place, const char *end, int depth, PyObject **out)
{
    PyObject *made = kind == '%' ? PyDict_New() : kind == '>' ? PyObject_CallNoArgs(self->push) : PyList_New(0);
    Parsed how = made == NULL ? FAILED : DONE;
    for (long long number = 0; how == DONE && number < count; number++) {
        PyObject *key = NULL, *value = NULL;
        if (kind == '%') {
            how = parse(self, place, end, depth + 1, &key);
            if (how == DONE && !PyBytes_CheckExact(key)) {
                how = NOT_SIMPLE;
            }
        }
        if (how == DONE) {
            how = parse(self, place, end, depth + 1, &value);
        }
        if (how == DONE && (key != NULL ? PyDict_SetItem(made, key, value) : PyList_Append(made, value)) < 0) {
            how = FAILED;
        }
        if (how == DONE && key != NULL && PyDict_GET_SIZE(made) != number + 1) {
            /* A name that comes twice: hiredis decides what that means. */
            how = NOT_SIMPLE;
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    if (how != DONE) {
        Py_XDECREF(made);
        return how;
    }
    *out = made;
    return DONE;
}

/* Read one reply. */
static Parsed
parse(Reader *self, const char **place, const char *end, int depth, PyObject **out)
{
    const char *at = *place;
    if (at == end) {
        return INCOMPLETE;
    }
    char kind = *at++;
    long long number;
    Parsed how;
    switch (kind) {
    case '$':
        if ((how = parse_number(&at, end, &number)) != DONE) {
            return how;
        }
        if (number < 0) {
            if (number != -1) {
                return NOT_SIMPLE;
            }
            *out = Py_NewRef(Py_None);
            break;
        }
        if (number > end - at - 2) {
            return number > MOST_INCOMPLETE ? NOT_SIMPLE : INCOMPLETE;
        }
        if (at[number] != '\r' || at[number + 1] != '\n') {
            return NOT_SIMPLE;
        }
        *out = PyBytes_FromStringAndSize(at, (Py_ssize_t)number);
        at += number + 2;
        break;
    case '+': {
        const char *line = memchr(at, '\r', (size_t)(end - at));
        if (line == NULL || line + 1 == end) {
            return INCOMPLETE;
        }
        if (line[1] != '\n' || memchr(at, '\n', (size_t)(line - at)) != NULL) {
            return NOT_SIMPLE;
        }
        *out = PyBytes_FromStringAndSize(at, line - at);
        at = line + 2;
        break;
    }
    case ':':
        if ((how = parse_number(&at, end, &number)) != DONE) {
            return how;
        }
        *out = PyLong_FromLongLong(number);
        break;
    case '_':
        if (end - at < 2) {
            return INCOMPLETE;
        }
        if (at[0] != '\r' || at[1] != '\n') {
            return NOT_SIMPLE;
        }
        *out = Py_NewRef(Py_None);
        at += 2;
        break;
    case '*':
    case '~':
    case '%':
    case '>':
        if ((how = parse_number(&at, end, &number)) != DONE) {
            return how;
        }
        if (number < 0 || number > MOST_ELEMENTS || depth >= MOST_DEPTH
            || (kind == '>' && (depth > 0 || number == 0))) {
            return NOT_SIMPLE;
        }
        if ((how = parse_elements(self, kind, number, &at, end, depth, out)) != DONE) {
            return how;
        }
        break;
    default:
        return NOT_SIMPLE;
    }
    if (*out == NULL) {
        return FAILED;
    }
    *place = at;
    return DONE;
}

int
fast_feed(Reader *self, PyObject *data)
{
    if (self->busy) {
        PyObject *done = PyObject_CallOneArg(self->feed, data);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    PyObject *buffer;
    if (self->buffer != NULL) {
        Py_ssize_t left = PyBytes_GET_SIZE(self->buffer) - self->place, more = PyBytes_GET_SIZE(data);
        if ((buffer = PyBytes_FromStringAndSize(NULL, left + more)) == NULL) {
            return -1;
        }
        char *end = fast_put(PyBytes_AS_STRING(buffer), PyBytes_AS_STRING(self->buffer) + self->place, left);
        fast_put(end, PyBytes_AS_STRING(data), more);
    }
    else {
        buffer = Py_NewRef(data);
    }
    Py_XSETREF(self->buffer, buffer);
    self->place = 0;
    return 0;
}

static PyObject *
reader_feed(Reader *self, PyObject *data)
{
    if (!PyBytes_CheckExact(data)) {
        PyErr_SetString(PyExc_TypeError, "bytes are needed");
        return NULL;
    }
    return fast_feed(self, data) < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *
fast_next_reply(Reader *self)
{
    if (self->nothing == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the reader has not been initialized");
        return NULL;
    }
    if (!self->busy) {
        if (self->buffer == NULL) {
            return Py_NewRef(self->nothing);
        }
        const char *start = PyBytes_AS_STRING(self->buffer), *place = start + self->place;
        const char *end = start + PyBytes_GET_SIZE(self->buffer);
        PyObject *reply = NULL;
        Parsed how = parse(self, &place, end, 0, &reply);
        if (how == DONE) {
            self->place = place - start;
            if (place == end) {
                Py_CLEAR(self->buffer);
            }
            return reply;
        }
        if (how == FAILED) {
            return NULL;
        }
        if (how == INCOMPLETE && end - place <= MOST_INCOMPLETE) {
            return Py_NewRef(self->nothing);
        }
        PyObject *rest = PyBytes_FromStringAndSize(place, end - place);
        if (rest == NULL) {
            return NULL;
        }
        Py_CLEAR(self->buffer);
        self->busy = 1;
        int failed = fast_feed(self, rest) < 0;
        Py_DECREF(rest);
        if (failed) {
            return NULL;
        }
    }
    PyObject *reply = PyObject_CallNoArgs(self->gets);
    if (reply != NULL && reply != self->nothing) {
        /* After a whole reply, hiredis has no part of another one if it has no more bytes. */
        PyObject *left = PyObject_CallNoArgs(self->has_data);
        if (left == NULL) {
            Py_DECREF(reply);
            return NULL;
        }
        self->busy = left != Py_False;
        Py_DECREF(left);
    }
    return reply;
}

static PyObject *
reader_gets(Reader *self, PyObject *ignored)
{
    return fast_next_reply(self);
}

static PyObject *
reader_has_data(Reader *self, PyObject *ignored)
{
    return self->busy ? PyObject_CallNoArgs(self->has_data) : PyBool_FromLong(self->buffer != NULL);
}

static int
reader_init(Reader *self, PyObject *args, PyObject *keywords)
{
    PyObject *hiredis, *nothing, *push;
    if (!PyArg_ParseTuple(args, "OOO", &hiredis, &nothing, &push)) {
        return -1;
    }
    PyObject *feed = PyObject_GetAttr(hiredis, fast_str.feed);
    PyObject *gets = feed == NULL ? NULL : PyObject_GetAttr(hiredis, fast_str.gets);
    PyObject *has_data = gets == NULL ? NULL : PyObject_GetAttr(hiredis, fast_str.has_data);
    if (has_data == NULL) {
        Py_XDECREF(feed);
        Py_XDECREF(gets);
        return -1;
    }
    Py_XSETREF(self->feed, feed);
    Py_XSETREF(self->gets, gets);
    Py_XSETREF(self->has_data, has_data);
    Py_XSETREF(self->nothing, Py_NewRef(nothing));
    Py_XSETREF(self->push, Py_NewRef(push));
    return 0;
}

static PyMethodDef reader_methods[] = {
    {"feed", (PyCFunction)reader_feed, METH_O, NULL},
    {"gets", (PyCFunction)reader_gets, METH_NOARGS, NULL},
    {"has_data", (PyCFunction)reader_has_data, METH_NOARGS, NULL},
    {NULL},
};

PyTypeObject fast_Reader = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.Reader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)reader_init,
    .tp_dealloc = (destructor)reader_dealloc,
    .tp_traverse = (traverseproc)reader_traverse,
    .tp_clear = (inquiry)reader_clear,
    .tp_methods = reader_methods,
};
