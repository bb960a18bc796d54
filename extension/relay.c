/* Groups relayed requests by node: `relay.batch.add_keyed`. */

#include "fast.h"

/* Add a request to the batch of its node, as `RawBatch.put`.  Returns -1 after an error. */
static int
put(PyObject *groups, PyObject *tag, PyObject *key, PyObject *payload)
{
    PyObject *group = fast_batch_for(groups, fast_slot(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)));
    PyObject *places = NULL, *packed = NULL;
    int failed = -1;
    if (group != NULL && (places = fast_list_attribute(group, fast_str._places)) != NULL
        && (packed = fast_list_attribute(group, fast_str._packed)) != NULL && PyList_Append(places, tag) == 0) {
        failed = PyList_Append(packed, payload);
    }
    Py_XDECREF(group);
    Py_XDECREF(places);
    Py_XDECREF(packed);
    return failed;
}

PyObject *
fast_add_keyed(PyObject *const *args)
{
    PyObject *groups = args[0], *tags = args[1], *keys = args[2], *payloads = args[3];
    if (!PyDict_Check(groups) || !fast_is_sequence(tags) || !fast_is_sequence(keys) || !fast_is_sequence(payloads)) {
        return NULL;
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(keys);
    if (PySequence_Fast_GET_SIZE(tags) != count || PySequence_Fast_GET_SIZE(payloads) != count) {
        return NULL;
    }
    for (Py_ssize_t place = 0; place < count; place++) {
        if (!PyBytes_CheckExact(PySequence_Fast_GET_ITEM(keys, place))) {
            return NULL;
        }
    }
    /* `make` runs no code of callers, so the sequences do not change. */
    for (Py_ssize_t place = 0; place < count; place++) {
        if (put(groups, PySequence_Fast_GET_ITEM(tags, place), PySequence_Fast_GET_ITEM(keys, place),
                PySequence_Fast_GET_ITEM(payloads, place))
            < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}
