/* Finds complete frames in bytes: `framing.take_plain`, `proxy.request_framer.take_simple`. */

#include "fast.h"

/* The longest name of a command, and the longest other word, that `take_simple` takes: as in `request_framer`. */
#define SHORTEST_NAME 2
#define LONGEST_NAME 9
#define LONGEST_WORD 2048
/* An element of a reply has at least this many bytes. */
#define LEAST 3
/* The longest text of a double. */
#define MOST_OF_DOUBLE 330

/* Read the digits of a number and the line break after them.  Returns their end; NULL if they are not complete, or if
 * the number is larger than `most` or does not have its usual form. */
static const char *
read_number(const char *place, const char *end, Py_ssize_t most, Py_ssize_t *number)
{
    const char *start = place;
    for (*number = 0; place < end && *place >= '0' && *place <= '9' && *number <= most; place++) {
        *number = *number * 10 + (*place - '0');
    }
    if (place == start || (*start == '0' && place > start + 1) || *number > most) {
        return NULL;
    }
    return end - place >= 2 && place[0] == '\r' && place[1] == '\n' ? place + 2 : NULL;
}

/* Skip so many bytes and the line break after them.  Returns their end; NULL if they are not complete. */
static const char *
skip(const char *place, const char *end, Py_ssize_t size)
{
    return end - place >= size + 2 && place[size] == '\r' && place[size + 1] == '\n' ? place + size + 2 : NULL;
}

/* Skip a line of any length. */
static const char *
skip_line(const char *place, const char *end)
{
    const char *found = memchr(place, '\r', (size_t)(end - place));
    return found == NULL || memchr(place, '\n', (size_t)(found - place)) != NULL ? NULL
                                                                                 : skip(place, end, found - place);
}

/* Skip a line whose characters are of some kind. */
static const char *
skip_some(const char *place, const char *end, int (*fits)(int), Py_ssize_t most)
{
    Py_ssize_t size = 0;
    while (place + size < end && size <= most && fits((unsigned char)place[size])) {
        size++;
    }
    return size > 0 && size <= most ? skip(place, end, size) : NULL;
}

static int
is_digit(int character)
{
    return character >= '0' && character <= '9';
}

static int
is_of_double(int character)
{
    return is_digit(character) || (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z')
           || character == '-' || character == '+' || character == '.';
}

/* Skip the rest of a null bulk string or a null array. */
static const char *
skip_null(const char *place, const char *end)
{
    return place[1] == '1' ? skip(place, end, 2) : NULL;
}

/* Skip one reply with all its elements.  Returns its end; NULL if it is not complete, or for the Python code. */
static const char *
skip_reply(const char *place, const char *end)
{
    Py_ssize_t left = 1, number;
    while (place != NULL && left > 0) {
        if ((end - place) / LEAST < left) {
            return NULL;
        }
        left--;
        switch (*place++) {
        case '+':
        case '-':
        case '(':
            place = skip_line(place, end);
            break;
        case ':':
            place = skip_some(place + (*place == '-'), end, is_digit, 19);
            break;
        case ',':
            place = skip_some(place, end, is_of_double, MOST_OF_DOUBLE);
            break;
        case '#':
            place = memchr("tfTF", *place, 4) != NULL ? skip(place, end, 1) : NULL;
            break;
        case '_':
            place = skip(place, end, 0);
            break;
        case '$':
            if (*place == '-') {
                place = skip_null(place, end);
                break;
            }
            /* fall through */
        case '=':
        case '!':
            place = read_number(place, end, end - place, &number);
            place = place != NULL ? skip(place, end, number) : NULL;
            break;
        case '*':
            if (*place == '-') {
                place = skip_null(place, end);
                break;
            }
            /* fall through */
        case '~':
            place = read_number(place, end, end - place, &number);
            left += number;
            break;
        case '%':
            place = read_number(place, end, end - place, &number);
            left += 2 * number;
            break;
        default:
            return NULL;
        }
    }
    return place;
}

/* Take the arguments data, pos and a list.  Returns where to begin; NULL if they are for the Python code. */
static const char *
begin_of(PyObject *const *args, const char **end)
{
    if (!PyBytes_CheckExact(args[0]) || !PyList_CheckExact(args[2])) {
        return NULL;
    }
    Py_ssize_t begin = PyLong_AsSsize_t(args[1]), size = PyBytes_GET_SIZE(args[0]);
    *end = PyBytes_AS_STRING(args[0]) + size;
    return begin < 0 || begin > size ? NULL : PyBytes_AS_STRING(args[0]) + begin;
}

/* Append a new object, or report that it could not be made.  Returns -1 after an error. */
static int
append_new(PyObject *list, PyObject *item)
{
    int failed = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return failed;
}

PyObject *
fast_take_plain(PyObject *const *args)
{
    const char *end, *place = begin_of(args, &end);
    Py_ssize_t most = place != NULL ? PyLong_AsSsize_t(args[3]) : -1;
    if (most < 0) {
        return NULL;
    }
    while (place < end && memchr("-!>|", *place, 4) == NULL) {
        const char *after = skip_reply(place, end);
        if (after == NULL || after - place > most) {
            break;
        }
        if (append_new(args[2], PyBytes_FromStringAndSize(place, after - place)) < 0) {
            return NULL;
        }
        place = after;
    }
    return PyLong_FromSsize_t(place - PyBytes_AS_STRING(args[0]));
}

/* A word of a request. */
typedef struct {
    const char *bytes;
    Py_ssize_t size;
} Word;

/* Read a word.  Returns its end; NULL if it is not complete, too long or malformed. */
static const char *
read_word(const char *place, const char *end, Py_ssize_t most, Word *word)
{
    if (place == NULL || place >= end || *place != '$') {
        return NULL;
    }
    word->bytes = read_number(place + 1, end, most, &word->size);
    return word->bytes != NULL ? skip(word->bytes, end, word->size) : NULL;
}

PyObject *
fast_take_simple(PyObject *const *args)
{
    const char *end, *place = begin_of(args, &end);
    if (place == NULL) {
        return NULL;
    }
    while (end - place > 4 && place[0] == '*' && (place[1] == '2' || place[1] == '3')
           && skip(place + 2, end, 0) != NULL) {
        Word name, key, value;
        const char *after = read_word(place + 4, end, LONGEST_NAME, &name);
        after = read_word(after, end, LONGEST_WORD, &key);
        if (place[1] == '3') {
            after = read_word(after, end, LONGEST_WORD, &value);
        }
        if (after == NULL || name.size < SHORTEST_NAME || memchr(name.bytes, '\r', (size_t)name.size) != NULL
            || memchr(name.bytes, '\n', (size_t)name.size) != NULL) {
            break;
        }
        PyObject *request = Py_BuildValue("(y#y#y#)", place, after - place, name.bytes, name.size, key.bytes, key.size);
        if (append_new(args[2], request) < 0) {
            return NULL;
        }
        place = after;
    }
    return PyLong_FromSsize_t(place - PyBytes_AS_STRING(args[0]));
}
