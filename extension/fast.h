/* The hot path of a command in C: pack it, queue it, read its reply, resume the coroutine that waits for it.
 *
 * The Python code is the definition.  Each part does exactly what the Python code that its file names does in the usual
 * case, and leaves every other case to that code: wrong arguments, large values, errors, redirects, Twisted's
 * debugging. `txvalkeycluster.acceleration` loads the module `_fast`.
 */

#ifndef FAST_H
#define FAST_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

/* Objects of the Python code, by the names that `configure` takes. */
typedef struct {
    PyObject *deferred;      /* twisted.internet.defer.Deferred */
    PyObject *failure;       /* twisted.python.failure.Failure */
    PyObject *got_result;    /* the callback that Twisted adds for a coroutine that waits */
    PyObject *go_on;         /* go_on(yielded, generator, status, context): a coroutine waits for another object */
    PyObject *raised;        /* raised(error, status): a coroutine has raised an error */
    PyObject *raise_failure; /* raise_failure(deferred): raises the error of a Deferred that has failed */
} Known;
extern Known fast_known;

/* The Python class whose instances the Executor makes, and the class of batches. */
extern PyTypeObject *fast_call_class, *fast_batch_class;

/* Other classes whose instances get a reply by `callback`, and nothing else. */
extern PyObject *fast_other_classes;

/* Names of attributes. */
// clang-format off
#define FAST_NAMES(X) \
    X(_admit) X(_broken) X(_close_if_drained) X(_commands) X(_continue_later) X(_deliver) X(_due) X(_extend_sent) \
    X(_flush_in_python) X(_handle) X(_packed) X(_places) X(_replies) X(_runCallbacks) X(_schedule) X(_slots) \
    X(_startRunCallbacks) X(_step_failed) X(_tempDataBuffer) X(_touched) X(_write_large) X(_write_later) \
    X(addBoth) X(addCallback) X(add_done_callback) X(address) X(appendleft) X(at) X(begin) X(by) X(bytes) \
    X(bytes_received) X(bytes_sent) X(callback) X(called) X(cancels) X(commands) X(context) X(count) \
    X(dataBuffer) X(deadline) X(debug) X(deferred) X(destinations) X(errback) X(extend) X(failed) X(feed) \
    X(flush) X(gets) X(has_data) X(held) X(history) X(key_specs) X(keyed) X(keynum) X(limit) X(make) X(name) \
    X(note_time) X(pack) X(payload) X(popleft) X(positions) X(repeatable) X(report_failed) X(seconds) X(send) \
    X(set_result) X(sink) X(sizes) X(small) X(start) X(step) X(stop) X(text) X(touch) X(waitingOn) X(wire_name) \
    X(write)
// clang-format on
typedef struct {
#define DECLARE(name) PyObject *name;
    FAST_NAMES(DECLARE)
#undef DECLARE
} Names;
extern Names fast_str;

extern PyObject *fast_no_bytes;

/* Return whether an attribute is true; -1 after an error. */
int fast_is_true(PyObject *object, PyObject *name);

/* Return an attribute that is a whole number; -1 with an exception after an error. */
Py_ssize_t fast_number(PyObject *object, PyObject *name);

/* Call a method with one argument for its effect.  Returns -1 after an error. */
int fast_tell(PyObject *object, PyObject *method, PyObject *argument);

/* Take the pending exception, as an object with its traceback. */
PyObject *fast_take_error(void);

/* Clear an error that Python code will find again.  Returns -1 and keeps it if it is no Exception, such as
 * KeyboardInterrupt. */
int fast_clear_error(void);

/* Copy bytes, and return the end of the copy. */
static inline char *
fast_put(char *place, const char *bytes, Py_ssize_t size)
{
    memcpy(place, bytes, (size_t)size);
    return place + size;
}

/* Tell whether the macros PySequence_Fast_... can be used without a check. */
static inline int
fast_is_sequence(PyObject *object)
{
    return PyTuple_CheckExact(object) || PyList_CheckExact(object);
}

/* Call a method of a base class, which a subclass may have replaced. */
PyObject *fast_base_method(PyObject *base, PyObject *self, PyObject *name, PyObject *const *args, Py_ssize_t count,
                           PyObject *kwnames);

/* ---- call_record.c */

typedef struct {
    PyObject_HEAD
    /* the attributes of Request */
    PyObject *payload, *command, *target, *history, *repeatable;
    double since, deadline;
    /* the attributes of Deferred */
    PyObject *callbacks, *canceller, *result, *chained_to, *debug_info;
    int paused;
    char called, running;
    /* the coroutine that was the first to wait; all callbacks in the list came later */
    PyObject *generator, *status, *context;
} CallRecord;

extern PyTypeObject fast_CallRecord;

/* Fire with a result. */
int fast_fire(CallRecord *self, PyObject *result);

/* ---- executor.c */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *python, *commands, *destinations, *seconds, *canceller, *no_timeout, *converted;
    /* what observes commands now, the context of their calls, and what gets only their times; NULL or None: nothing */
    PyObject *observer, *context, *note_time;
    double limit;
    char off;
} Executor;

extern PyTypeObject fast_Executor;

/* Send a command with one key, unless commands are observed; `make` is the class of its call.  Returns NULL, with or
 * without an exception, if the Python code has to send it. */
PyObject *fast_execute(Executor *self, PyObject *words, PyObject *make);

/* ---- observed.c */

typedef struct {
    CallRecord base;
    Executor *executor; /* NULL if the Python code has made the call */
    PyObject *observer, *destination, *address, *context;
} ObservedRecord;

extern PyTypeObject fast_ObservedRecord;

/* The Python class whose instances the Executor makes while commands are observed. */
extern PyTypeObject *fast_observed_class;

/* Note who observes a call, and which destination gets it. */
int fast_observe(ObservedRecord *self, Executor *executor, PyObject *destination);

/* Report that a call has succeeded.  Returns 1; 0 if the observer wants a record, which the Python code makes; -1 after
 * an error. */
int fast_note_time(ObservedRecord *self);

/* ---- times.c */

extern PyTypeObject fast_Times, fast_TimeRecorder;

/* Record a time.  Returns 0 if the Python code has to do it. */
int fast_record_time(PyObject *recorder, PyObject *name, double seconds);

/* ---- reply.c */

/* The Python class of the replies for asyncio; NULL as long as it is not imported. */
extern PyTypeObject *fast_reply_class;

extern PyTypeObject fast_ReplySender;

/* reply_record(future, task, current_task, current_tasks, converted): make the base class of this class. */
PyObject *fast_reply_record(PyObject *module, PyObject *args);

PyObject *fast_make_reply(PyObject *command, PyObject *payload, PyObject *target, double since, double deadline,
                          PyObject *repeatable, PyObject *canceller);

/* Return 1 if a reply has not ended, 0 if it has, and -1 if it has a history. */
int fast_reply_state(PyObject *self);

/* End a reply with a result, as `CommandReply.callback`, and free the bytes of the command. */
int fast_answer_reply(PyObject *self, PyObject *result);

/* ---- packing.c */

/* So many words need no memory of their own. */
#define FAST_FEW_WORDS 16
/* The longest word of a command that is packed here, as in `encoder`. */
#define FAST_LARGE 8192

/* The words of a command, as bytes. */
typedef struct {
    Py_ssize_t count;
    const char **bytes;
    Py_ssize_t *sizes;
    PyObject **encoded; /* owns what had to be encoded */
    Py_ssize_t made;
    const char *few_bytes[FAST_FEW_WORDS];
    Py_ssize_t few_sizes[FAST_FEW_WORDS];
    PyObject *few_encoded[FAST_FEW_WORDS];
    void *many;
} Words;

/* Look at the words of a tuple or list.  Returns -1 without an exception if one of them is for the Python code: it has
 * another type than str, bytes and int, or is longer than `most`.  In both cases they must be freed. */
int fast_read_words(Words *words, PyObject *sequence, Py_ssize_t most);
void fast_free_words(Words *words);

/* Write the digits of a number that is not negative, and return their end. */
char *fast_put_number(char *place, Py_ssize_t number);

/* Write a word with the header before it, and return its end.  The line break after it belongs to the next header. */
static inline char *
fast_put_word(char *place, const char *bytes, Py_ssize_t size)
{
    place = fast_put_number(fast_put(place, "\r\n$", 3), size);
    return fast_put(fast_put(place, "\r\n", 2), bytes, size);
}

/* The most bytes that `fast_put_word` adds to a word. */
#define FAST_HEADER 24

/* Pack words.  With a wire name, it replaces the first word. */
PyObject *fast_pack_words(const Words *words, PyObject *wire_name);

/* Must be called before a slot is computed. */
void fast_make_crc_table(void);

int fast_slot(const char *key, Py_ssize_t size);

/* Pack a command whose only key is word 1, as `encoder.pack_keyed`, and compute its slot.  Returns NULL without an
 * exception if the Python code has to do it. */
PyObject *fast_pack_keyed(PyObject *wire_name, PyObject *args, int *slot);

/* ---- batches.c: they return NULL without an exception if the Python code has to do it */

PyObject *fast_take(PyObject *const *args);
PyObject *fast_split(PyObject *const *args);
PyObject *fast_store(PyObject *const *args);
PyObject *fast_merge(PyObject *const *args);

/* Return an attribute that is a list. */
PyObject *fast_list_attribute(PyObject *object, PyObject *name);

/* Return the batch for the owner of a slot, as `BatchesByNode.of`. */
PyObject *fast_batch_for(PyObject *batches, int slot);

/* ---- command_list.c */

extern PyTypeObject fast_CommandList;

/* ---- frames.c, relay.c: as batches.c */

PyObject *fast_take_plain(PyObject *const *args);
PyObject *fast_take_simple(PyObject *const *args);
PyObject *fast_add_keyed(PyObject *const *args);

/* ---- shortcut.c */

extern PyTypeObject fast_Shortcut;

/* ---- command_stream.c */

extern PyTypeObject fast_CommandStream;

/* joined(requests): join the payloads of requests; None if one of them is not bytes. */
PyObject *fast_joined(PyObject *module, PyObject *requests);

/* ---- reader.c */

/* Reads replies as hiredis.Reader does.  It parses what is short and simple itself, and gives everything else to
 * hiredis: errors, doubles, large values, deep nesting, what is malformed. */
typedef struct {
    PyObject_HEAD
    PyObject *feed, *gets, *has_data, *nothing, *push;
    PyObject *buffer; /* bytes that are not parsed, from `place` on; NULL if there are none */
    Py_ssize_t place;
    char busy; /* whether hiredis has bytes */
} Reader;

extern PyTypeObject fast_Reader;

/* Take bytes. */
int fast_feed(Reader *self, PyObject *data);

/* Return the next reply, or `nothing`. */
PyObject *fast_next_reply(Reader *self);

/* ---- replies.c, messages.c */

extern PyTypeObject fast_Replies, fast_Messages;

/* Give bytes to the reader, and deliver replies.  Returns the first reply that the Python code has to handle. */
PyObject *fast_deliver(PyObject *replies, PyObject *data);

/* Tell whether the Python code has nothing to do after `fast_deliver` returned this. */
int fast_is_done(PyObject *replies, PyObject *reply);

#endif
