/* Packs commands and computes slots: `commands.encoder` and `slots`. */

#include "fast.h"

/* The longest word of a command whose name is packed from the table, as in `encoder`. */
#define MOST_BYTES 1024

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

int
fast_slot(const char *key, Py_ssize_t size)
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

char *
fast_put_number(char *place, Py_ssize_t number)
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

void
fast_free_words(Words *words)
{
    while (words->made > 0) {
        Py_DECREF(words->encoded[--words->made]);
    }
    PyMem_Free(words->many);
}

int
fast_read_words(Words *words, PyObject *sequence, Py_ssize_t most)
{
    PyObject **items = PySequence_Fast_ITEMS(sequence);
    words->count = PySequence_Fast_GET_SIZE(sequence);
    words->bytes = words->few_bytes;
    words->sizes = words->few_sizes;
    words->encoded = words->few_encoded;
    words->made = 0;
    words->many = NULL;
    if (words->count > FAST_FEW_WORDS) {
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

PyObject *
fast_pack_words(const Words *words, PyObject *wire_name)
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
    end = fast_put_number(end, words->count);
    if (wire_name != NULL) {
        end = fast_put(end, PyBytes_AS_STRING(wire_name), PyBytes_GET_SIZE(wire_name));
    }
    for (Py_ssize_t place = wire_name != NULL ? 1 : 0; place < words->count; place++) {
        end = fast_put_word(end, words->bytes[place], words->sizes[place]);
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
    if (fast_read_words(&words, args, by_table ? MOST_BYTES : FAST_LARGE) == 0) {
        packed = fast_pack_words(&words, by_table ? wire_name : NULL);
        *slot = fast_slot(words.bytes[1], words.sizes[1]);
    }
    fast_free_words(&words);
    return packed;
}
