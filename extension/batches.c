/* Puts commands into batches, and replies into lists: `routing.batches`. */

#include "fast.h"

PyObject *
fast_list_attribute(PyObject *object, PyObject *name)
{
    PyObject *list = PyObject_GetAttr(object, name);
    if (list != NULL && !PyList_CheckExact(list)) {
        Py_CLEAR(list);
        PyErr_SetString(PyExc_TypeError, "a list is needed");
    }
    return list;
}

PyObject *
fast_batch_for(PyObject *batches, int slot)
{
    PyObject *destinations = fast_list_attribute(batches, fast_str.destinations);
    if (destinations == NULL) {
        return NULL;
    }
    PyObject *destination =
        Py_XNewRef(slot < PyList_GET_SIZE(destinations) ? PyList_GET_ITEM(destinations, slot) : NULL);
    Py_DECREF(destinations);
    if (destination == NULL) {
        PyErr_SetString(PyExc_IndexError, "there is no destination for this slot");
        return NULL;
    }
    PyObject *batch = Py_XNewRef(PyDict_GetItemWithError(batches, destination));
    if (batch == NULL && !PyErr_Occurred()) {
        PyObject *number = PyLong_FromLong(slot);
        if (number != NULL) {
            batch = PyObject_CallMethodOneArg(batches, fast_str.make, number);
            Py_DECREF(number);
        }
        if (batch != NULL && PyDict_SetItem(batches, destination, batch) < 0) {
            Py_CLEAR(batch);
        }
    }
    Py_DECREF(destination);
    return batch;
}

static int
append_number(PyObject *list, Py_ssize_t value)
{
    PyObject *number = PyLong_FromSsize_t(value);
    if (number == NULL) {
        return -1;
    }
    int failed = PyList_Append(list, number);
    Py_DECREF(number);
    return failed;
}

/* The lists of the batch for one destination. */
typedef struct {
    PyObject *destination; /* borrowed: the batches have it */
    PyObject *places, *packed, *commands, *slots;
} Lists;

static void
close_lists(Lists *lists)
{
    Py_CLEAR(lists->places);
    Py_CLEAR(lists->packed);
    Py_CLEAR(lists->commands);
    Py_CLEAR(lists->slots);
    lists->destination = NULL;
}

/* Get the lists of the batch for a slot.  They must be closed, also after an error. */
static int
open_lists(Lists *lists, PyObject *batches, int slot)
{
    PyObject *batch = fast_batch_for(batches, slot);
    int failed = batch == NULL || (lists->places = fast_list_attribute(batch, fast_str._places)) == NULL
                         || (lists->packed = fast_list_attribute(batch, fast_str._packed)) == NULL
                         || (lists->commands = fast_list_attribute(batch, fast_str._commands)) == NULL
                         || (lists->slots = fast_list_attribute(batch, fast_str._slots)) == NULL
                     ? -1
                     : 0;
    Py_XDECREF(batch);
    return failed;
}

/* Add a command, as `Batch.add`. */
static int
append(const Lists *lists, Py_ssize_t place, int slot, PyObject *payload, PyObject *command)
{
    return append_number(lists->places, place) < 0 || PyList_Append(lists->packed, payload) < 0
                   || PyList_Append(lists->commands, command) < 0 || append_number(lists->slots, slot) < 0
               ? -1
               : 0;
}

/* Add a command to the batch of its node, as `Batches.add`. */
static int
add(PyObject *batches, Py_ssize_t place, int slot, PyObject *payload, PyObject *command)
{
    Lists lists = {NULL};
    int failed = open_lists(&lists, batches, slot) < 0 ? -1 : append(&lists, place, slot, payload, command);
    close_lists(&lists);
    return failed;
}

static int
set_number(PyObject *object, PyObject *name, Py_ssize_t number)
{
    PyObject *value = PyLong_FromSsize_t(number);
    int failed = value == NULL ? -1 : PyObject_SetAttr(object, name, value);
    Py_XDECREF(value);
    return failed;
}

/* A command with one key, which is its first argument. */
typedef struct {
    PyObject *name; /* as the caller wrote it */
    PyObject *command, *wire_name;
} UsualCommand;

/* So many nodes and names need not be looked up for each command. */
#define FEW_NODES 8
#define FEW_NAMES 4

/* How far `take` has come. */
typedef struct {
    PyObject *intake, *batches, *table, *stopped;
    Py_ssize_t count, bytes, limit, small;
    PyObject *destinations; /* NULL if it is not known */
    Lists lists[FEW_NODES];
    UsualCommand commands[FEW_NAMES];
    int next_lists, next_command; /* the places of the next ones */
} Taking;

static void
forget_command(UsualCommand *known)
{
    Py_CLEAR(known->name);
    Py_CLEAR(known->command);
    Py_CLEAR(known->wire_name);
}

/* Forget what was looked up, because other code runs that can change it. */
static void
forget(Taking *taking)
{
    for (int place = 0; place < FEW_NODES; place++) {
        close_lists(&taking->lists[place]);
    }
    for (int place = 0; place < FEW_NAMES; place++) {
        forget_command(&taking->commands[place]);
    }
    Py_CLEAR(taking->destinations);
}

/* Look up a name.  Returns NULL, perhaps with an exception, if it is for the Python code. */
static const UsualCommand *
usual_command(Taking *taking, PyObject *name)
{
    for (int place = 0; place < FEW_NAMES; place++) {
        if (taking->commands[place].name == name) {
            return &taking->commands[place];
        }
    }
    PyObject *command =
        PyUnicode_CheckExact(name) || PyBytes_CheckExact(name) ? PyDict_GetItemWithError(taking->table, name) : NULL;
    if (command == NULL || fast_is_true(command, fast_str.keyed) != 1) {
        return NULL;
    }
    PyObject *wire_name = PyObject_GetAttr(command, fast_str.wire_name);
    if (wire_name == NULL) {
        return NULL;
    }
    UsualCommand *known = &taking->commands[taking->next_command];
    taking->next_command = (taking->next_command + 1) % FEW_NAMES;
    forget_command(known);
    *known = (UsualCommand){Py_NewRef(name), Py_NewRef(command), wire_name};
    return known;
}

/* Pack the words of a keyed command.  Returns NULL without an exception if it is for the Python code. */
static PyObject *
pack_usual(Taking *taking, PyObject *words, PyObject **command, int *slot)
{
    const UsualCommand *known = fast_is_sequence(words) && PySequence_Fast_GET_SIZE(words) > 1
                                    ? usual_command(taking, PySequence_Fast_ITEMS(words)[0])
                                    : NULL;
    if (known == NULL) {
        PyErr_Clear();
        return NULL;
    }
    *command = known->command;
    return fast_pack_keyed(known->wire_name, words, slot);
}

/* Return the lists for a slot; NULL after an error. */
static const Lists *
lists_for(Taking *taking, int slot)
{
    if (taking->destinations == NULL
        && (taking->destinations = fast_list_attribute(taking->batches, fast_str.destinations)) == NULL) {
        return NULL;
    }
    PyObject *destination =
        slot < PyList_GET_SIZE(taking->destinations) ? PyList_GET_ITEM(taking->destinations, slot) : NULL;
    for (int place = 0; place < FEW_NODES && destination != NULL; place++) {
        if (taking->lists[place].destination == destination) {
            return &taking->lists[place];
        }
    }
    Lists *lists = &taking->lists[taking->next_lists];
    taking->next_lists = (taking->next_lists + 1) % FEW_NODES;
    close_lists(lists);
    if (open_lists(lists, taking->batches, slot) < 0) {
        return NULL;
    }
    lists->destination = destination;
    return lists;
}

/* Let the Python code see how far `take` has come. */
static int
show_count(Taking *taking)
{
    return set_number(taking->intake, fast_str.count, taking->count) < 0
                   || set_number(taking->intake, fast_str.bytes, taking->bytes) < 0
               ? -1
               : 0;
}

/* Add a command, and count its bytes if it is not small. */
static int
add_counted(Taking *taking, int slot, PyObject *payload, PyObject *command)
{
    Py_ssize_t size = PyBytes_GET_SIZE(payload);
    const Lists *lists = lists_for(taking, slot);
    if (lists == NULL || append(lists, taking->count - 1, slot, payload, command) < 0) {
        return -1;
    }
    if (size <= taking->small) {
        return 0;
    }
    PyObject *sizes = PyObject_GetAttr(taking->intake, fast_str.sizes), *value = PyLong_FromSsize_t(size);
    PyObject *place = PyLong_FromSsize_t(taking->count - 1);
    int failed = sizes == NULL || place == NULL || value == NULL || PyObject_SetItem(sizes, place, value) < 0;
    Py_XDECREF(sizes);
    Py_XDECREF(place);
    Py_XDECREF(value);
    taking->bytes += size;
    return failed ? -1 : 0;
}

/* Add a command with unusual words, which can run any code.  Returns 1 if it was added, 0 if it must be sent by itself,
 * and 2 if the pipeline has been stopped. */
static int
add_unusual(Taking *taking, PyObject *words)
{
    forget(taking);
    if (show_count(taking) < 0) {
        return -1;
    }
    PyObject *args[] = {taking->batches, words, taking->table};
    PyObject *packed = PyObject_VectorcallMethod(fast_str.pack, args, 3, NULL), *command, *payload;
    if (packed == NULL || packed == Py_None) {
        Py_XDECREF(packed);
        return packed == NULL ? -1 : 0;
    }
    int slot, result = -1;
    if (PyArg_ParseTuple(packed, "OiO!", &command, &slot, &PyBytes_Type, &payload)) {
        taking->bytes = fast_number(taking->intake, fast_str.bytes);
        if (!PyErr_Occurred() && add_counted(taking, slot, payload, command) == 0) {
            forget(taking);
            PyObject *stopped = PyObject_CallNoArgs(taking->stopped);
            result = stopped == NULL ? -1 : PyObject_IsTrue(stopped) ? 2 : 1;
            Py_XDECREF(stopped);
        }
    }
    Py_DECREF(packed);
    return result;
}

/* take(intake, calls, most, table, batches, stopped): only for the iterator of a list, which runs no code of the
 * caller. */
PyObject *
fast_take(PyObject *const *args)
{
    PyObject *calls = args[1], *words, *other = NULL;
    Taking taking = {.intake = args[0], .batches = args[4], .table = args[3], .stopped = args[5]};
    if (Py_TYPE(calls) != &PyListIter_Type || !PyLong_CheckExact(args[2]) || !PyDict_Check(taking.table)
        || !PyDict_Check(taking.batches)) {
        return NULL;
    }
    Py_ssize_t most = PyLong_AsSsize_t(args[2]);
    taking.count = fast_number(taking.intake, fast_str.count);
    taking.bytes = fast_number(taking.intake, fast_str.bytes);
    taking.limit = fast_number(taking.intake, fast_str.limit);
    taking.small = fast_number(taking.intake, fast_str.small);
    int added = PyErr_Occurred() ? -1 : 1;
    while (added == 1 && most-- > 0 && (words = PyIter_Next(calls)) != NULL) {
        PyObject *command = NULL;
        int slot = 0;
        taking.count++;
        PyObject *payload = pack_usual(&taking, words, &command, &slot);
        if (payload != NULL) {
            added = add_counted(&taking, slot, payload, command) < 0 ? -1 : 1;
            Py_DECREF(payload);
        }
        else {
            added = add_unusual(&taking, words);
            other = added == 0 ? PyTuple_Pack(1, words) : NULL;
        }
        Py_DECREF(words);
        if (taking.bytes >= taking.limit) {
            break;
        }
    }
    forget(&taking);
    if (PyErr_Occurred() || show_count(&taking) < 0) {
        Py_XDECREF(other);
        return NULL;
    }
    return other != NULL ? other : Py_NewRef(Py_None);
}

/* The words of one part of a command. */
typedef struct {
    int slot;
    Py_ssize_t keys, first, last;
} Part;

/* How the keys of a command lie among its words. */
typedef struct {
    Py_ssize_t start, step, end, counted;
} Layout;

/* Ask the Python code for the layout.  Returns -1 if it is for the Python code. */
static int
read_layout(PyObject *command, PyObject *args, Py_ssize_t keys, Layout *layout)
{
    PyObject *specs = PyObject_GetAttr(command, fast_str.key_specs);
    PyObject *spec = specs != NULL && PyTuple_CheckExact(specs) && PyTuple_GET_SIZE(specs) == 1
                         ? Py_NewRef(PyTuple_GET_ITEM(specs, 0))
                         : NULL;
    PyObject *places = spec == NULL ? NULL : PyObject_CallMethodOneArg(spec, fast_str.positions, args);
    PyObject *counted = places == NULL ? NULL : PyObject_GetAttr(spec, fast_str.keynum);
    int failed = -1;
    if (counted != NULL && PyObject_Size(places) == keys) {
        layout->start = fast_number(places, fast_str.start);
        layout->step = fast_number(places, fast_str.step);
        layout->end = layout->start + keys * layout->step;
        layout->counted = counted == Py_None ? 0 : fast_number(spec, fast_str.begin) + PyLong_AsSsize_t(counted);
        failed = PyErr_Occurred() || layout->start < 1 || layout->step < 1 || layout->end > PyTuple_GET_SIZE(args)
                         || layout->counted < 0 || layout->counted >= layout->start
                     ? -1
                     : 0;
    }
    Py_XDECREF(specs);
    Py_XDECREF(spec);
    Py_XDECREF(places);
    Py_XDECREF(counted);
    return failed;
}

/* Pack the words of one part; `next` leads from each key to the next one with the same slot. */
static PyObject *
pack_part(const Words *words, const Layout *layout, const Part *part, const Py_ssize_t *next)
{
    Py_ssize_t count = words->count - (layout->end - layout->start) + part->keys * layout->step, total = 64;
    for (Py_ssize_t place = 0; place < words->count; place++) {
        if (place < layout->start || place >= layout->end) {
            total += words->sizes[place] + FAST_HEADER;
        }
    }
    for (Py_ssize_t key = part->first; key >= 0; key = next[key]) {
        for (Py_ssize_t place = 0; place < layout->step; place++) {
            total += words->sizes[layout->start + key * layout->step + place] + FAST_HEADER;
        }
    }
    char *buffer = PyMem_Malloc((size_t)total), digits[24], *end;
    if (buffer == NULL) {
        return PyErr_NoMemory();
    }
    *buffer = '*';
    end = fast_put_number(buffer + 1, count);
    for (Py_ssize_t place = 0; place < layout->start; place++) {
        if (place > 0 && place == layout->counted) {
            end = fast_put_word(end, digits, fast_put_number(digits, part->keys) - digits);
        }
        else {
            end = fast_put_word(end, words->bytes[place], words->sizes[place]);
        }
    }
    for (Py_ssize_t key = part->first; key >= 0; key = next[key]) {
        for (Py_ssize_t place = 0; place < layout->step; place++) {
            Py_ssize_t word = layout->start + key * layout->step + place;
            end = fast_put_word(end, words->bytes[word], words->sizes[word]);
        }
    }
    for (Py_ssize_t place = layout->end; place < words->count; place++) {
        end = fast_put_word(end, words->bytes[place], words->sizes[place]);
    }
    end = fast_put(end, "\r\n", 2);
    PyObject *packed = PyBytes_FromStringAndSize(buffer, end - buffer);
    PyMem_Free(buffer);
    return packed;
}

/* Sort keys by their slots.  Returns the number of parts, or -1 if the slots are not numbers in their range.
 *
 * The parts are in the order of their first keys. */
static Py_ssize_t
sort_keys(PyObject *slots, Part *parts, Py_ssize_t *next)
{
    /* The number of a slot's part, counted from 1; 0 before and after each call. */
    static unsigned short part_of[16384];
    Py_ssize_t count = 0, keys = PyList_GET_SIZE(slots);
    int wrong = 0;
    for (Py_ssize_t key = 0; key < keys; key++) {
        PyObject *item = PyList_GET_ITEM(slots, key);
        long slot = PyLong_CheckExact(item) ? PyLong_AsLong(item) : -1;
        if (slot < 0 || slot > 16383) {
            wrong = 1;
            break;
        }
        next[key] = -1;
        if (part_of[slot] == 0) {
            parts[count] = (Part){.slot = (int)slot, .keys = 1, .first = key, .last = key};
            part_of[slot] = (unsigned short)++count;
        }
        else {
            Part *part = &parts[part_of[slot] - 1];
            next[part->last] = key;
            part->last = key;
            part->keys++;
        }
    }
    for (Py_ssize_t place = 0; place < count; place++) {
        part_of[parts[place].slot] = 0;
    }
    return wrong ? -1 : count;
}

static PyObject *
numbers_of(const Part *part, const Py_ssize_t *next)
{
    PyObject *numbers = PyList_New(0);
    for (Py_ssize_t key = part->first; numbers != NULL && key >= 0; key = next[key]) {
        if (append_number(numbers, key) < 0) {
            Py_CLEAR(numbers);
        }
    }
    return numbers;
}

/* split(batches, command, args, slots) */
PyObject *
fast_split(PyObject *const *args)
{
    PyObject *batches = args[0], *command = args[1], *words = args[2], *slots = args[3], *numbers = NULL;
    Layout layout = {0};
    if (!PyDict_Check(batches) || !PyTuple_CheckExact(words) || !PyList_CheckExact(slots)) {
        return NULL;
    }
    Py_ssize_t keys = PyList_GET_SIZE(slots), count;
    if (keys == 0 || read_layout(command, words, keys, &layout) < 0) {
        PyErr_Clear();
        return NULL;
    }
    Words read;
    Part *parts = PyMem_New(Part, keys);
    Py_ssize_t *next = PyMem_New(Py_ssize_t, keys);
    if (fast_read_words(&read, words, FAST_LARGE) == 0 && parts != NULL && next != NULL
        && (count = sort_keys(slots, parts, next)) > 0) {
        numbers = PyList_New(0);
        for (Py_ssize_t place = 0; numbers != NULL && place < count; place++) {
            PyObject *payload = pack_part(&read, &layout, &parts[place], next), *its = NULL;
            int failed = payload == NULL || add(batches, place, parts[place].slot, payload, command) < 0
                         || (its = numbers_of(&parts[place], next)) == NULL || PyList_Append(numbers, its) < 0;
            Py_XDECREF(payload);
            Py_XDECREF(its);
            if (failed) {
                Py_CLEAR(numbers);
            }
        }
    }
    fast_free_words(&read);
    PyMem_Free(parts);
    PyMem_Free(next);
    return numbers;
}

/* Put each value into a list at its place.  Returns -1 if the Python code has to do it. */
static int
put_values(PyObject *results, PyObject *places, PyObject *values)
{
    if (!PyList_CheckExact(results) || !fast_is_sequence(places) || !fast_is_sequence(values)
        || PySequence_Fast_GET_SIZE(places) != PySequence_Fast_GET_SIZE(values)) {
        return -1;
    }
    for (Py_ssize_t number = 0; number < PySequence_Fast_GET_SIZE(places); number++) {
        PyObject *place = PySequence_Fast_ITEMS(places)[number];
        Py_ssize_t index = PyLong_CheckExact(place) ? PyLong_AsSsize_t(place) : -1;
        if (index < 0 || index >= PyList_GET_SIZE(results)) {
            PyErr_Clear();
            return -1;
        }
        /* What it replaces is None or a reply: no code of the caller runs. */
        PyList_SetItem(results, index, Py_NewRef(PySequence_Fast_ITEMS(values)[number]));
    }
    return 0;
}

/* store(results, places, values) */
PyObject *
fast_store(PyObject *const *args)
{
    return put_values(args[0], args[1], args[2]) < 0 ? NULL : Py_NewRef(Py_None);
}

/* merge(results, keys, replies) */
PyObject *
fast_merge(PyObject *const *args)
{
    PyObject *results = args[0], *keys = args[1], *replies = args[2], *number, *reply;
    Py_ssize_t position = 0;
    if (!PyList_CheckExact(keys) || !PyDict_CheckExact(replies)) {
        return NULL;
    }
    while (PyDict_Next(replies, &position, &number, &reply)) {
        Py_ssize_t part = PyLong_CheckExact(number) ? PyLong_AsSsize_t(number) : -1;
        if (part < 0 || part >= PyList_GET_SIZE(keys) || put_values(results, PyList_GET_ITEM(keys, part), reply) < 0) {
            PyErr_Clear();
            return NULL;
        }
    }
    return Py_NewRef(Py_None);
}
