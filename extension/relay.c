/* Groups relayed requests by node: `relay.batch.add_keyed`. */

#include "fast.h"

/* Append to a list that is an attribute.  Returns -1 after an error. */
static int
append_to(PyObject *object, PyObject *name, PyObject *item)
{
    PyObject *list = PyObject_GetAttr(object, name);
    if (list == NULL) {
        return -1;
    }
    int done = -1;
    if (PyList_CheckExact(list)) {
        done = PyList_Append(list, item);
    }
    else {
        PyErr_SetString(PyExc_TypeError, "the requests of a batch must be in lists");
    }
    Py_DECREF(list);
    return done;
}

/* Return the batch for a destination, which `make` makes if there is none yet. */
static PyObject *
group_for(PyObject *groups, PyObject *destination, PyObject *make, int slot)
{
    PyObject *group = PyDict_GetItemWithError(groups, destination);
    if (group != NULL || PyErr_Occurred()) {
        return Py_XNewRef(group);
    }
    PyObject *number = PyLong_FromLong(slot);
    group = number != NULL ? PyObject_CallOneArg(make, number) : NULL;
    Py_XDECREF(number);
    if (group != NULL && PyDict_SetItem(groups, destination, group) < 0) {
        Py_CLEAR(group);
    }
    return group;
}

PyObject *
fast_add_keyed(PyObject *const *args)
{
    PyObject *groups = args[0], *destinations = args[1], *make = args[2], *tags = args[3], *keys = args[4];
    PyObject *payloads = args[5];
    if (!PyDict_CheckExact(groups) || !PyList_CheckExact(destinations) || !fast_is_sequence(tags)
        || !fast_is_sequence(keys) || !fast_is_sequence(payloads)) {
        return NULL;
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(keys);
    if (PySequence_Fast_GET_SIZE(tags) != count || PySequence_Fast_GET_SIZE(payloads) != count
        || PyList_GET_SIZE(destinations) != 16384) {
        return NULL;
    }
    for (Py_ssize_t place = 0; place < count; place++) {
        if (!PyBytes_CheckExact(PySequence_Fast_GET_ITEM(keys, place))) {
            return NULL;
        }
    }
    /* `make` runs no code of callers, so the sequences do not change. */
    for (Py_ssize_t place = 0; place < count; place++) {
        PyObject *key = PySequence_Fast_GET_ITEM(keys, place);
        int slot = fast_slot(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key));
        PyObject *group = group_for(groups, PyList_GET_ITEM(destinations, slot), make, slot);
        if (group == NULL) {
            return NULL;
        }
        int done = append_to(group, fast_str._places, PySequence_Fast_GET_ITEM(tags, place));
        if (done == 0) {
            done = append_to(group, fast_str._packed, PySequence_Fast_GET_ITEM(payloads, place));
        }
        Py_DECREF(group);
        if (done < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}
