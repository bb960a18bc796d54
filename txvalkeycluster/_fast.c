/* The hot path of a command in C: pack it, queue it, give its reply to the waiting coroutine.
 *
 * The Python code is the definition.  Each part here does exactly what the Python code of the same name does in the
 * usual case, and leaves every other case to it: wrong arguments, large values, errors, redirects, Twisted's debugging.
 * `acceleration` loads this module, and says when it is not used.
 *
 *   Shortcut    commands.encoder, slots               CallRecord  requests.fast_deferred.FastDeferred, and the
 *   SendQueue   connection.send_queue.SendQueue                 attributes of requests.request.Request
 *   Replies     connection.replies.Replies          Executor    routing.router.Router.execute
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <structmember.h>

/* Objects of the Python code, by the names that `configure` takes. */
static struct {
    PyObject *deferred;        /* twisted.internet.defer.Deferred */
    PyObject *failure;         /* twisted.python.failure.Failure */
    PyObject *got_result;      /* the callback that Twisted adds for a coroutine that waits */
    PyObject *go_on;           /* go_on(yielded, generator, status, context): a coroutine waits for another object */
    PyObject *raised;          /* raised(error, status): a coroutine has raised an error */
    PyObject *raise_failure;   /* raise_failure(deferred): raises the error of a Deferred that has failed */
} known;

/* The Python class whose instances the Executor makes, and whose replies `Replies` delivers. */
static PyTypeObject *call_class, *batch_class;

/* Other classes whose instances get a reply by `callback`, and nothing else. */
static PyObject *other_classes;

#define NAMES(X) \
    X(_admit) X(_due) X(_replies) X(_runCallbacks) X(_startRunCallbacks) X(addBoth) X(addCallback) X(appendleft) X(at) X(by) \
    X(callback) X(called) X(deadline) X(debug) X(deferred) X(errback) X(failed) X(feed) X(gets) X(has_data) X(history) X(keyed) X(make) X(payload) X(popleft) \
    X(repeatable) X(send) X(sink) X(text) X(touch) X(waitingOn) X(wire_name) X(write)
static struct {
#define DECLARE(name) PyObject *name;
    NAMES(DECLARE)
#undef DECLARE
} str;

static PyObject *no_bytes;

static int
is_true(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL) {
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth;
}

/* Take the pending exception, as an object with its traceback. */
static PyObject *
take_error(void)
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

/* Clear an error that Python code will find again; keep one that is no Exception, such as KeyboardInterrupt. */
static int
clear_error(void)
{
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* ---- CallRecord */

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

static PyTypeObject CallRecord_Type;

static int
call_traverse(CallRecord *self, visitproc visit, void *arg)
{
    Py_VISIT(self->payload);
    Py_VISIT(self->command);
    Py_VISIT(self->target);
    Py_VISIT(self->history);
    Py_VISIT(self->repeatable);
    Py_VISIT(self->callbacks);
    Py_VISIT(self->canceller);
    Py_VISIT(self->result);
    Py_VISIT(self->chained_to);
    Py_VISIT(self->debug_info);
    Py_VISIT(self->generator);
    Py_VISIT(self->status);
    Py_VISIT(self->context);
    return 0;
}

static int
call_clear(CallRecord *self)
{
    Py_CLEAR(self->payload);
    Py_CLEAR(self->command);
    Py_CLEAR(self->target);
    Py_CLEAR(self->history);
    Py_CLEAR(self->repeatable);
    Py_CLEAR(self->callbacks);
    Py_CLEAR(self->canceller);
    Py_CLEAR(self->result);
    Py_CLEAR(self->chained_to);
    Py_CLEAR(self->debug_info);
    Py_CLEAR(self->generator);
    Py_CLEAR(self->status);
    Py_CLEAR(self->context);
    return 0;
}

static void
call_dealloc(CallRecord *self)
{
    PyObject_GC_UnTrack(self);
    call_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int
has_callbacks(CallRecord *self)
{
    return self->callbacks != NULL && PyList_GET_SIZE(self->callbacks) > 0;
}

/* Call a method of Deferred, which a subclass may have replaced. */
static PyObject *
deferred_method(CallRecord *self, PyObject *name, PyObject *const *args, Py_ssize_t count, PyObject *kwnames)
{
    PyObject *function = PyObject_GetAttr(known.deferred, name);
    if (function == NULL) {
        return NULL;
    }
    PyObject *result = NULL, *few[8], **all = few;
    Py_ssize_t total = count + (kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0);
    if (total + 1 > 8 && (all = PyMem_New(PyObject *, total + 1)) == NULL) {
        PyErr_NoMemory();
    }
    else {
        all[0] = (PyObject *)self;
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

static PyObject *
call_addBoth(CallRecord *self, PyObject *const *args, Py_ssize_t count, PyObject *kwnames)
{
    /* The arguments of a coroutine: the callback, a list, the generator, its status and its context. */
    if (count == 5 && args[0] == known.got_result && kwnames == NULL && self->generator == NULL && !self->called
        && !has_callbacks(self) && (PyCoro_CheckExact(args[2]) || PyGen_CheckExact(args[2]))
        && PyContext_CheckExact(args[4])) {
        self->generator = Py_NewRef(args[2]);
        self->status = Py_NewRef(args[3]);
        self->context = Py_NewRef(args[4]);
        return Py_NewRef(self);
    }
    return deferred_method(self, str.addBoth, args, count, kwnames);
}

/* Move the waiting coroutine to the front of the list of callbacks. */
static int
queue_waiter(CallRecord *self)
{
    if (self->generator == NULL) {
        return 0;
    }
    PyObject *generator = self->generator, *status = self->status, *context = self->context, *others = self->callbacks;
    self->generator = self->status = self->context = self->callbacks = NULL;
    PyObject *waiting = Py_BuildValue("[OO]", Py_False, Py_None), *added = NULL;
    if (waiting != NULL) {
        PyObject *args[] = {known.got_result, waiting, generator, status, context};
        added = deferred_method(self, str.addBoth, args, 5, NULL);
    }
    int failed = added == NULL;
    if (!failed && others != NULL) {
        Py_ssize_t end = PyList_GET_SIZE(self->callbacks);
        failed = PyList_SetSlice(self->callbacks, end, end, others) < 0;
    }
    Py_XDECREF(added);
    Py_XDECREF(waiting);
    Py_XDECREF(others);
    Py_DECREF(generator);
    Py_DECREF(status);
    Py_DECREF(context);
    return failed ? -1 : 0;
}

static int
start_callbacks(CallRecord *self, PyObject *result)
{
    PyObject *done = deferred_method(self, str._startRunCallbacks, &result, 1, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Give the result of a coroutine to its own Deferred. */
static int
returned(PyObject *status, PyObject *result)
{
    PyObject *own = PyObject_GetAttr(status, str.deferred);
    if (own == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethodOneArg(own, str.callback, result);
    Py_DECREF(own);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Run a coroutine up to its next wait, as twisted.internet.defer._inlineCallbacks does. */
static int
resume(PyObject *generator, PyObject *status, PyObject *context, PyObject *result)
{
    PyObject *out = NULL;
    if (PyContext_Enter(context) < 0) {
        return -1;
    }
    PySendResult how = PyIter_Send(generator, result, &out);
    PyObject *error = how == PYGEN_ERROR ? take_error() : NULL;
    int failed = PyContext_Exit(context);
    if (failed) {
        Py_XDECREF(error);
    }
    else if (how == PYGEN_NEXT) {
        CallRecord *next = (CallRecord *)out;
        if (PyObject_TypeCheck(out, &CallRecord_Type) && next->generator == NULL && !next->called
            && !has_callbacks(next)) {
            next->generator = Py_NewRef(generator);
            next->status = Py_NewRef(status);
            next->context = Py_NewRef(context);
            failed = PyObject_SetAttr(status, str.waitingOn, out);
        }
        else {
            PyObject *args[] = {out, generator, status, context};
            PyObject *done = PyObject_Vectorcall(known.go_on, args, 4, NULL);
            failed = done == NULL ? -1 : 0;
            Py_XDECREF(done);
        }
    }
    else if (how == PYGEN_RETURN) {
        failed = returned(status, out);
    }
    else {
        PyObject *args[] = {error, status};
        PyObject *done = PyObject_Vectorcall(known.raised, args, 2, NULL);
        failed = done == NULL ? -1 : 0;
        Py_XDECREF(done);
        Py_DECREF(error);
    }
    Py_XDECREF(out);
    return failed;
}

/* Fire with a result, which is not a Failure in nearly all cases. */
static int
fire(CallRecord *self, PyObject *result)
{
    if (self->generator == NULL) {
        return start_callbacks(self, result);
    }
    int general = self->paused || self->called || PyObject_TypeCheck(result, (PyTypeObject *)known.failure);
    if (!general && (general = is_true((PyObject *)self, str.debug)) < 0) {
        return -1;
    }
    if (general) {
        return queue_waiter(self) < 0 ? -1 : start_callbacks(self, result);
    }
    PyObject *generator = self->generator, *status = self->status, *context = self->context;
    self->generator = self->status = self->context = NULL;
    self->called = 1;
    Py_CLEAR(self->canceller);
    Py_XSETREF(self->result, Py_NewRef(result));
    self->running = 1;
    PyObject *left = NULL;
    if (resume(generator, status, context, result) == 0) {
        left = Py_NewRef(Py_None);
    }
    else {
        PyObject *error = take_error();
        left = PyObject_CallOneArg(known.failure, error);
        Py_DECREF(error);
    }
    self->running = 0;
    Py_DECREF(generator);
    Py_DECREF(status);
    Py_DECREF(context);
    if (left == NULL) {
        return -1;
    }
    Py_XSETREF(self->result, left);
    if (has_callbacks(self) || left != Py_None) {
        PyObject *done = deferred_method(self, str._runCallbacks, NULL, 0, NULL);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    return 0;
}

static PyObject *
call_callback(CallRecord *self, PyObject *result)
{
    return fire(self, result) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
call_errback(CallRecord *self, PyObject *const *args, Py_ssize_t count, PyObject *kwnames)
{
    return queue_waiter(self) < 0 ? NULL : deferred_method(self, str.errback, args, count, kwnames);
}

/* One step of a coroutine that waits for this object.  Twisted resumes the coroutine with the result. */
static PySendResult
call_step(CallRecord *self, PyObject *sent, PyObject **out)
{
    *out = NULL;
    if (sent != NULL && sent != Py_None) {
        *out = Py_NewRef(sent);
        return PYGEN_RETURN;
    }
    if (!self->called || self->paused) {
        *out = Py_NewRef(self);
        return PYGEN_NEXT;
    }
    if (self->result == NULL) {
        PyErr_SetString(PyExc_AttributeError, "result");
        return PYGEN_ERROR;
    }
    if (PyObject_TypeCheck(self->result, (PyTypeObject *)known.failure)) {
        Py_XDECREF(PyObject_CallOneArg(known.raise_failure, (PyObject *)self));
        return PYGEN_ERROR;
    }
    *out = Py_NewRef(self->result);
    return PYGEN_RETURN;
}

static PyObject *
call_send(CallRecord *self, PyObject *sent)
{
    PyObject *out;
    PySendResult how = call_step(self, sent, &out);
    if (how == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, out);
        Py_CLEAR(out);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
    }
    return out;
}

static PyObject *
call_next(CallRecord *self)
{
    return call_send(self, Py_None);
}

static PyObject *
get_callbacks(CallRecord *self, void *closure)
{
    if (self->callbacks == NULL && (self->callbacks = PyList_New(0)) == NULL) {
        return NULL;
    }
    return Py_NewRef(self->callbacks);
}

static int
set_callbacks(CallRecord *self, PyObject *value, void *closure)
{
    if (value == NULL || !PyList_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "_callbacks must be a list");
        return -1;
    }
    Py_XSETREF(self->callbacks, Py_NewRef(value));
    return 0;
}

static PyObject *
get_waiter(CallRecord *self, void *closure)
{
    return Py_NewRef(self->generator == NULL ? Py_None : self->generator);
}

#define MEMBER(name, field, kind) {name, kind, offsetof(CallRecord, field), 0, NULL}
static PyMemberDef call_members[] = {
    MEMBER("payload", payload, T_OBJECT),
    MEMBER("command", command, T_OBJECT),
    MEMBER("target", target, T_OBJECT),
    MEMBER("history", history, T_OBJECT),
    MEMBER("repeatable", repeatable, T_OBJECT),
    MEMBER("since", since, T_DOUBLE),
    MEMBER("deadline", deadline, T_DOUBLE),
    MEMBER("_canceller", canceller, T_OBJECT),
    MEMBER("result", result, T_OBJECT_EX),
    MEMBER("_chainedTo", chained_to, T_OBJECT),
    MEMBER("_debugInfo", debug_info, T_OBJECT),
    MEMBER("paused", paused, T_INT),
    MEMBER("called", called, T_BOOL),
    MEMBER("_runningCallbacks", running, T_BOOL),
    {NULL},
};
#undef MEMBER

static PyGetSetDef call_getset[] = {
    {"_callbacks", (getter)get_callbacks, (setter)set_callbacks, NULL, NULL},
    {"_waiter", (getter)get_waiter, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef call_methods[] = {
    {"addBoth", (PyCFunction)(void (*)(void))call_addBoth, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"callback", (PyCFunction)call_callback, METH_O, NULL},
    {"errback", (PyCFunction)(void (*)(void))call_errback, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"send", (PyCFunction)call_send, METH_O, NULL},
    {NULL},
};

/* The object is its own iterator: what it would have to remember is in the Deferred. */
static PyAsyncMethods call_async = {.am_await = PyObject_SelfIter, .am_send = (sendfunc)call_step};

static PyTypeObject CallRecord_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "txvalkeycluster._fast.CallRecord",
    .tp_basicsize = sizeof(CallRecord),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)call_dealloc,
    .tp_traverse = (traverseproc)call_traverse,
    .tp_clear = (inquiry)call_clear,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)call_next,
    .tp_as_async = &call_async,
    .tp_methods = call_methods,
    .tp_members = call_members,
    .tp_getset = call_getset,
};

/* ---- packing */

/* So many words need no memory of their own. */
#define FEW_WORDS 16
/* The longest word of a command whose name is packed from the table, and of any other command: as in `encoder`. */
#define MOST_BYTES 1024
#define LARGE 8192

static unsigned short crc_table[256];

static void
make_crc_table(void)
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

static char *
put(char *place, const char *bytes, Py_ssize_t size)
{
    memcpy(place, bytes, (size_t)size);
    return place + size;
}

/* The words of a command, as bytes. */
typedef struct {
    Py_ssize_t count;
    const char **bytes;
    Py_ssize_t *sizes;
    PyObject **encoded;        /* owns what had to be encoded */
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
        end = put(end, PyBytes_AS_STRING(wire_name), PyBytes_GET_SIZE(wire_name));
    }
    for (Py_ssize_t place = wire_name != NULL ? 1 : 0; place < words->count; place++) {
        end = put(end, "\r\n$", 3);
        end = put_number(end, words->sizes[place]);
        end = put(end, "\r\n", 2);
        end = put(end, words->bytes[place], words->sizes[place]);
    }
    end = put(end, "\r\n", 2);
    PyObject *packed = PyBytes_FromStringAndSize(buffer, end - buffer);
    if (buffer != few) {
        PyMem_Free(buffer);
    }
    return packed;
}

/* pack_keyed(wire_name, args).  Returns NULL without an exception if the Python code has to do it. */
static PyObject *
pack_keyed(PyObject *wire_name, PyObject *args, int *slot)
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
        PyObject *packed = pack_keyed(args[0], args[1], &slot);
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

static PyTypeObject Shortcut_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "txvalkeycluster._fast.Shortcut",
    .tp_basicsize = sizeof(Shortcut),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Shortcut, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)shortcut_init,
    .tp_dealloc = (destructor)shortcut_dealloc,
    .tp_members = shortcut_members,
};

/* ---- SendQueue */

typedef struct {
    PyObject_HEAD
    PyObject *unsent, *timer, *scheduler;
    Py_ssize_t crowd;
} SendQueue;

#define BURST 1024

static int
queue_traverse(SendQueue *self, visitproc visit, void *arg)
{
    Py_VISIT(self->unsent);
    Py_VISIT(self->timer);
    Py_VISIT(self->scheduler);
    return 0;
}

static int
queue_clear(SendQueue *self)
{
    Py_CLEAR(self->unsent);
    Py_CLEAR(self->timer);
    Py_CLEAR(self->scheduler);
    return 0;
}

static void
queue_dealloc(SendQueue *self)
{
    PyObject_GC_UnTrack(self);
    queue_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Call a method for its effect. */
static int
tell(PyObject *object, PyObject *method, PyObject *argument)
{
    PyObject *done = PyObject_CallMethodOneArg(object, method, argument);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static double
number_attribute(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL) {
        return -1.0;
    }
    double number = PyFloat_AsDouble(value);
    Py_DECREF(value);
    return number;
}

static PyObject *
queue_send(SendQueue *self, PyObject *request)
{
    PyObject *unsent = self->unsent, *timer = self->timer, *scheduler = self->scheduler, *sent = NULL;
    if (unsent == NULL || !PyList_CheckExact(unsent) || timer == NULL || scheduler == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the queue has not been initialized");
        return NULL;
    }
    Py_INCREF(unsent);
    Py_INCREF(timer);
    Py_INCREF(scheduler);
    Py_ssize_t queued = PyList_GET_SIZE(unsent);
    int by_fields = PyObject_TypeCheck(request, &CallRecord_Type);
    if ((queued == 0 && tell(scheduler, str.touch, (PyObject *)self) < 0)
        || (queued >= self->crowd && tell((PyObject *)self, str._admit, request) < 0)
        || PyList_Append(unsent, request) < 0) {
        goto done;
    }
    double at = number_attribute(timer, str.at);
    if (at == -1.0 && PyErr_Occurred()) {
        goto done;
    }
    double deadline = by_fields ? ((CallRecord *)request)->deadline : number_attribute(request, str.deadline);
    if (deadline == -1.0 && PyErr_Occurred()) {
        goto done;
    }
    if (deadline < at) {
        PyObject *value = PyFloat_FromDouble(deadline);
        int failed = value == NULL || tell(timer, str.by, value) < 0;
        Py_XDECREF(value);
        if (failed) {
            goto done;
        }
    }
    int now = queued >= BURST;
    if (!now) {
        PyObject *payload =
            by_fields ? Py_XNewRef(((CallRecord *)request)->payload) : PyObject_GetAttr(request, str.payload);
        if (payload == NULL && PyErr_Occurred()) {
            goto done;
        }
        now = payload != NULL && PyList_CheckExact(payload);
        Py_XDECREF(payload);
    }
    if (now && tell(scheduler, str.write, (PyObject *)self) < 0) {
        goto done;
    }
    sent = Py_NewRef(Py_None);
done:
    Py_DECREF(unsent);
    Py_DECREF(timer);
    Py_DECREF(scheduler);
    return sent;
}

/* Join the payloads of requests; None if one of them is not bytes. */
static PyObject *
joined(PyObject *module, PyObject *requests)
{
    if (!PyList_CheckExact(requests)) {
        PyErr_SetString(PyExc_TypeError, "a list is needed");
        return NULL;
    }
    Py_ssize_t count = PyList_GET_SIZE(requests), total = 0;
    PyObject *few[64], **payloads = few, *all = NULL;
    Py_ssize_t taken = 0;
    if (count > 64 && (payloads = PyMem_New(PyObject *, count)) == NULL) {
        return PyErr_NoMemory();
    }
    for (; taken < count; taken++) {
        PyObject *request = PyList_GET_ITEM(requests, taken);
        PyObject *payload = PyObject_TypeCheck(request, &CallRecord_Type)
            ? Py_XNewRef(((CallRecord *)request)->payload) : PyObject_GetAttr(request, str.payload);
        if (payload == NULL && PyErr_Occurred()) {
            goto done;
        }
        if (payload == NULL || !PyBytes_CheckExact(payload)) {
            Py_XDECREF(payload);
            all = Py_NewRef(Py_None);
            goto done;
        }
        payloads[taken] = payload;
        total += PyBytes_GET_SIZE(payload);
        if (PyList_GET_SIZE(requests) != count) {
            taken++;
            PyErr_SetString(PyExc_RuntimeError, "the list of requests has changed");
            goto done;
        }
    }
    if (count == 1) {
        all = Py_NewRef(payloads[0]);
        goto done;
    }
    all = PyBytes_FromStringAndSize(NULL, total);
    if (all != NULL) {
        char *end = PyBytes_AS_STRING(all);
        for (Py_ssize_t place = 0; place < count; place++) {
            end = put(end, PyBytes_AS_STRING(payloads[place]), PyBytes_GET_SIZE(payloads[place]));
        }
    }
done:
    while (taken > 0) {
        Py_DECREF(payloads[--taken]);
    }
    if (payloads != few) {
        PyMem_Free(payloads);
    }
    return all;
}

static PyMemberDef queue_members[] = {
    {"_unsent", T_OBJECT_EX, offsetof(SendQueue, unsent), 0, NULL},
    {"_deadline_timer", T_OBJECT_EX, offsetof(SendQueue, timer), 0, NULL},
    {"_write_scheduler", T_OBJECT_EX, offsetof(SendQueue, scheduler), 0, NULL},
    {"_crowd", T_PYSSIZET, offsetof(SendQueue, crowd), 0, NULL},
    {NULL},
};

static PyMethodDef queue_methods[] = {
    {"send", (PyCFunction)queue_send, METH_O, NULL},
    {NULL},
};

static PyTypeObject SendQueue_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "txvalkeycluster._fast.SendQueue",
    .tp_basicsize = sizeof(SendQueue),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)queue_dealloc,
    .tp_traverse = (traverseproc)queue_traverse,
    .tp_clear = (inquiry)queue_clear,
    .tp_methods = queue_methods,
    .tp_members = queue_members,
};

/* ---- Reader */

/* Reads replies as hiredis.Reader does.  It parses what is short and simple itself, and gives everything else to
 * hiredis: errors, doubles, large values, deep nesting, what is malformed. */
typedef struct {
    PyObject_HEAD
    PyObject *feed, *gets, *has_data, *nothing, *push;
    PyObject *buffer;          /* bytes that are not parsed, from `place` on; NULL if there are none */
    Py_ssize_t place;
    char busy;                 /* whether hiredis has bytes */
} Reader;

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
        if (number < 0 || number > MOST_ELEMENTS || depth >= MOST_DEPTH || (kind == '>' && (depth > 0 || number == 0))) {
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

static int
reader_take(Reader *self, PyObject *data)
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
        char *end = put(PyBytes_AS_STRING(buffer), PyBytes_AS_STRING(self->buffer) + self->place, left);
        put(end, PyBytes_AS_STRING(data), more);
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
    return reader_take(self, data) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
next_reply(Reader *self)
{
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
        int failed = reader_take(self, rest) < 0;
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
    return next_reply(self);
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
    PyObject *feed = PyObject_GetAttr(hiredis, str.feed), *gets = PyObject_GetAttr(hiredis, str.gets);
    PyObject *has_data = PyObject_GetAttr(hiredis, str.has_data);
    if (feed == NULL || gets == NULL || has_data == NULL) {
        Py_XDECREF(feed);
        Py_XDECREF(gets);
        Py_XDECREF(has_data);
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

static PyTypeObject Reader_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "txvalkeycluster._fast.Reader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)reader_init,
    .tp_dealloc = (destructor)reader_dealloc,
    .tp_traverse = (traverseproc)reader_traverse,
    .tp_clear = (inquiry)reader_clear,
    .tp_methods = reader_methods,
};

/* ---- Replies */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    Reader *reader;
    PyObject *sent, *popleft, *decode, *unusual;
} Replies;

static int
replies_traverse(Replies *self, visitproc visit, void *arg)
{
    Py_VISIT(self->reader);
    Py_VISIT(self->sent);
    Py_VISIT(self->popleft);
    Py_VISIT(self->decode);
    Py_VISIT(self->unusual);
    return 0;
}

static int
replies_clear(Replies *self)
{
    Py_CLEAR(self->reader);
    Py_CLEAR(self->sent);
    Py_CLEAR(self->popleft);
    Py_CLEAR(self->decode);
    Py_CLEAR(self->unusual);
    return 0;
}

static void
replies_dealloc(Replies *self)
{
    PyObject_GC_UnTrack(self);
    replies_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Return the first request in the queue (borrowed, the queue keeps it); NULL without an exception if it is empty. */
static PyObject *
first_of(PyObject *sent)
{
    Py_ssize_t count = PySequence_Size(sent);
    if (count <= 0) {
        return NULL;
    }
    PyObject *first = PySequence_GetItem(sent, 0);
    Py_XDECREF(first);
    return first;
}

/* Remove the first request from the queue, and return it. */
static PyObject *
take_first(Replies *self)
{
    return PyObject_CallNoArgs(self->popleft);
}

/* Tell whether a reply is neither an error nor a push. */
static int
is_plain(Replies *self, PyObject *reply)
{
    return PyBytes_CheckExact(reply) || PySet_Contains(self->unusual, (PyObject *)Py_TYPE(reply)) == 0;
}

/* Return the decoded reply; NULL if the Python code must handle an error. */
static PyObject *
decoded(Replies *self, PyObject *reply)
{
    if (self->decode == Py_None || PyLong_CheckExact(reply) || reply == Py_None) {
        return Py_NewRef(reply);
    }
    return PyObject_CallOneArg(self->decode, reply);
}

/* Give replies to a batch, without the last one, which ends it.
 *
 * Takes `reply` and returns the first reply that is not such a reply. */
static PyObject *
fill_batch(Replies *self, PyObject *batch, PyObject *reply)
{
    PyObject *replies = NULL, *due = NULL, *history = PyObject_GetAttr(batch, str.history);
    int plain = history == Py_None;
    Py_XDECREF(history);
    if (!plain || (replies = PyObject_GetAttr(batch, str._replies)) == NULL
        || (due = PyObject_GetAttr(batch, str._due)) == NULL || !PyList_CheckExact(replies)
        || PyObject_SetAttr(batch, str.payload, no_bytes) < 0) {
        goto done;
    }
    Py_ssize_t most = PyLong_AsSsize_t(due) - 1;
    while (PyList_GET_SIZE(replies) < most && is_plain(self, reply)) {
        PyObject *value = decoded(self, reply);
        if (value == NULL) {
            break;
        }
        int failed = PyList_Append(replies, value) < 0;
        Py_DECREF(value);
        PyObject *taken = failed ? NULL : take_first(self);
        Py_DECREF(reply);
        reply = NULL;
        if (taken == NULL) {
            break;
        }
        Py_DECREF(taken);
        reply = next_reply(self->reader);
        if (reply == NULL || reply == self->reader->nothing) {
            break;
        }
    }
done:
    Py_XDECREF(replies);
    Py_XDECREF(due);
    return reply;
}

/* Give a reply to a request of another class.  Returns 0 if the Python code has to do it, and -1 after an error. */
static int
answer_other(Replies *self, PyObject *request, PyObject *reply)
{
    PyObject *history = NULL, *value = NULL, *taken = NULL, *done = NULL;
    int answered = 0;
    Py_INCREF(request);
    if (is_true(request, str.called) != 0 || (history = PyObject_GetAttr(request, str.history)) != Py_None
        || (value = decoded(self, reply)) == NULL) {
        if (clear_error() < 0) {
            answered = -1;
        }
        goto done;
    }
    answered = -1;
    if ((taken = take_first(self)) == NULL || PyObject_SetAttr(request, str.payload, no_bytes) < 0) {
        goto done;
    }
    if ((done = PyObject_CallMethodOneArg(request, str.callback, value)) != NULL) {
        answered = 1;
    }
done:
    Py_DECREF(request);
    Py_XDECREF(history);
    Py_XDECREF(value);
    Py_XDECREF(taken);
    Py_XDECREF(done);
    return answered;
}

/* Deliver replies, and return the first one that the Python code has to handle. */
static PyObject *
replies_call(Replies *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    for (;;) {
        PyObject *reply = next_reply(self->reader);
        if (reply == NULL || reply == self->reader->nothing) {
            return reply;
        }
        if (!is_plain(self, reply)) {
            return reply;
        }
        PyObject *first = first_of(self->sent);
        if (first == NULL) {
            return reply;
        }
        if (Py_TYPE(first) == batch_class) {
            int called = is_true(first, str.called);
            if (called == 0) {
                Py_INCREF(first);
                reply = fill_batch(self, first, reply);
                Py_DECREF(first);
                if (PyErr_Occurred() && reply != NULL) {
                    /* The Python code decodes it again, and finds the error again. */
                    PyErr_Clear();
                }
            }
            return reply;
        }
        if (Py_TYPE(first) != call_class) {
            if (PySet_Contains(other_classes, (PyObject *)Py_TYPE(first)) != 1) {
                return reply;
            }
            int answered = answer_other(self, first, reply);
            if (answered == 0) {
                return reply;
            }
            Py_DECREF(reply);
            if (answered < 0) {
                return NULL;
            }
            continue;
        }
        CallRecord *call = (CallRecord *)first;
        if (!call->called && call->history != NULL && call->history != Py_None) {
            return reply;
        }
        if ((call = (CallRecord *)take_first(self)) == NULL) {
            Py_DECREF(reply);
            return NULL;
        }
        int failed = 0;
        if (!call->called) {
            PyObject *value = decoded(self, reply);
            if (value == NULL) {
                /* The Python code decodes it again, and handles the error. */
                PyErr_Clear();
                PyObject *done = PyObject_CallMethodOneArg(self->sent, str.appendleft, (PyObject *)call);
                Py_DECREF(call);
                if (done == NULL) {
                    Py_CLEAR(reply);
                }
                Py_XDECREF(done);
                return reply;
            }
            Py_XSETREF(call->payload, Py_NewRef(no_bytes));
            failed = fire(call, value);
            Py_DECREF(value);
        }
        Py_DECREF(reply);
        Py_DECREF(call);
        if (failed) {
            return NULL;
        }
    }
}

static int
replies_init(Replies *self, PyObject *args, PyObject *keywords)
{
    PyObject *reader, *sent, *decode, *unusual;
    if (!PyArg_ParseTuple(args, "O!OOO!", &Reader_Type, &reader, &sent, &decode, &PyFrozenSet_Type, &unusual)) {
        return -1;
    }
    PyObject *popleft = PyObject_GetAttr(sent, str.popleft);
    if (popleft == NULL) {
        return -1;
    }
    Py_XSETREF(self->reader, (Reader *)Py_NewRef(reader));
    Py_XSETREF(self->sent, Py_NewRef(sent));
    Py_XSETREF(self->popleft, popleft);
    Py_XSETREF(self->decode, Py_NewRef(decode));
    Py_XSETREF(self->unusual, Py_NewRef(unusual));
    self->vectorcall = (vectorcallfunc)replies_call;
    return 0;
}

static PyTypeObject Replies_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "txvalkeycluster._fast.Replies",
    .tp_basicsize = sizeof(Replies),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Replies, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)replies_init,
    .tp_dealloc = (destructor)replies_dealloc,
    .tp_traverse = (traverseproc)replies_traverse,
    .tp_clear = (inquiry)replies_clear,
};

/* ---- Messages */

/* Delivers the messages of subscriptions. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    Reader *reader;
    PyTypeObject *message;
    PyObject *deliveries;
    Py_ssize_t count;          /* how many it has delivered */
} Messages;

static int
messages_traverse(Messages *self, visitproc visit, void *arg)
{
    Py_VISIT(self->reader);
    Py_VISIT(self->message);
    Py_VISIT(self->deliveries);
    return 0;
}

static int
messages_clear(Messages *self)
{
    Py_CLEAR(self->reader);
    Py_CLEAR(self->message);
    Py_CLEAR(self->deliveries);
    return 0;
}

static void
messages_dealloc(Messages *self)
{
    PyObject_GC_UnTrack(self);
    messages_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Call the function that gets the messages of a subscription.  Its exceptions are the subscription's. */
static int
give_message(PyObject *part, PyObject *sink, PyObject *message)
{
    PyObject *done = PyObject_CallOneArg(sink, message);
    if (done == NULL) {
        PyObject *error = take_error(), *outer = PyErr_GetHandledException();
        PyErr_SetHandledException(error);
        done = PyObject_CallMethodNoArgs(part, str.failed);
        PyErr_SetHandledException(outer);
        Py_XDECREF(outer);
        Py_DECREF(error);
    }
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Deliver a reply if it is a message.  Returns 0 if it is for the Python code, and -1 after an error. */
static int
deliver_message(Messages *self, PyObject *reply)
{
    if (!(PyList_CheckExact(reply) || Py_TYPE(reply) == (PyTypeObject *)self->reader->push)
        || PyList_GET_SIZE(reply) < 3) {
        return 0;
    }
    PyObject *by_name = PyDict_GetItemWithError(self->deliveries, PyList_GET_ITEM(reply, 0));
    PyObject *part = by_name != NULL && PyDict_CheckExact(by_name)
        ? PyDict_GetItemWithError(by_name, PyList_GET_ITEM(reply, 1)) : NULL;
    if (part == NULL) {
        return clear_error();
    }
    Py_INCREF(part);
    PyObject *sink = PyObject_GetAttr(part, str.sink), *text = NULL, *message = NULL;
    int delivered = sink == Py_None ? 0 : -1;
    if (sink != NULL && sink != Py_None && (text = PyObject_GetAttr(part, str.text)) != NULL
        && (message = self->message->tp_alloc(self->message, 4)) != NULL) {
        PyTuple_SET_ITEM(message, 0, Py_NewRef(text));
        PyTuple_SET_ITEM(message, 1, Py_NewRef(PyList_GET_ITEM(reply, 2)));
        PyTuple_SET_ITEM(message, 2, Py_NewRef(Py_None));
        PyTuple_SET_ITEM(message, 3, Py_NewRef(Py_None));
        self->count++;
        delivered = give_message(part, sink, message) < 0 ? -1 : 1;
    }
    Py_DECREF(part);
    Py_XDECREF(sink);
    Py_XDECREF(text);
    Py_XDECREF(message);
    return delivered;
}

/* Deliver messages, and return the first reply that the Python code has to handle. */
static PyObject *
messages_call(Messages *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    for (;;) {
        PyObject *reply = next_reply(self->reader);
        if (reply == NULL || reply == self->reader->nothing) {
            return reply;
        }
        int delivered = deliver_message(self, reply);
        if (delivered == 0) {
            return reply;
        }
        Py_DECREF(reply);
        if (delivered < 0) {
            return NULL;
        }
    }
}

static int
messages_init(Messages *self, PyObject *args, PyObject *keywords)
{
    PyObject *reader, *message, *deliveries;
    if (!PyArg_ParseTuple(args, "O!O!O!", &Reader_Type, &reader, &PyType_Type, &message, &PyDict_Type, &deliveries)) {
        return -1;
    }
    if (!PyType_IsSubtype((PyTypeObject *)message, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "messages must be tuples");
        return -1;
    }
    Py_XSETREF(self->reader, (Reader *)Py_NewRef(reader));
    Py_XSETREF(self->message, (PyTypeObject *)Py_NewRef(message));
    Py_XSETREF(self->deliveries, Py_NewRef(deliveries));
    self->vectorcall = (vectorcallfunc)messages_call;
    return 0;
}

static PyMemberDef messages_members[] = {
    {"count", T_PYSSIZET, offsetof(Messages, count), 0, NULL},
    {NULL},
};

static PyTypeObject Messages_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "txvalkeycluster._fast.Messages",
    .tp_basicsize = sizeof(Messages),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Messages, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)messages_init,
    .tp_dealloc = (destructor)messages_dealloc,
    .tp_traverse = (traverseproc)messages_traverse,
    .tp_clear = (inquiry)messages_clear,
    .tp_members = messages_members,
};

/* ---- Executor */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *python, *commands, *destinations, *seconds, *canceller, *no_timeout, *converted;
    double limit;
    char off;
} Executor;

static int
executor_traverse(Executor *self, visitproc visit, void *arg)
{
    Py_VISIT(self->python);
    Py_VISIT(self->commands);
    Py_VISIT(self->destinations);
    Py_VISIT(self->seconds);
    Py_VISIT(self->canceller);
    Py_VISIT(self->no_timeout);
    Py_VISIT(self->converted);
    return 0;
}

static int
executor_clear(Executor *self)
{
    Py_CLEAR(self->python);
    Py_CLEAR(self->commands);
    Py_CLEAR(self->destinations);
    Py_CLEAR(self->seconds);
    Py_CLEAR(self->canceller);
    Py_CLEAR(self->no_timeout);
    Py_CLEAR(self->converted);
    return 0;
}

static void
executor_dealloc(Executor *self)
{
    PyObject_GC_UnTrack(self);
    executor_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Make the call of a command; `make` is the class, or a function that makes a call of another class. */
static PyObject *
make_call(Executor *self, PyObject *make, PyObject *command, PyObject *payload, int slot, double since, double deadline,
          PyObject *repeatable)
{
    PyObject *target = PyLong_FromLong(slot);
    if (target == NULL) {
        return NULL;
    }
    if (make == (PyObject *)call_class) {
        CallRecord *call = (CallRecord *)call_class->tp_alloc(call_class, 0);
        if (call == NULL) {
            Py_DECREF(target);
            return NULL;
        }
        call->command = Py_NewRef(command);
        call->payload = Py_NewRef(payload);
        call->repeatable = Py_NewRef(repeatable);
        call->canceller = Py_NewRef(self->canceller);
        call->target = target;
        call->since = since;
        call->deadline = deadline;
        return (PyObject *)call;
    }
    PyObject *begun = PyFloat_FromDouble(since), *end = PyFloat_FromDouble(deadline), *call = NULL;
    if (begun != NULL && end != NULL) {
        PyObject *args[] = {payload, command, target, begun, end, repeatable, self->canceller};
        call = PyObject_Vectorcall(make, args, 7, NULL);
    }
    Py_XDECREF(begun);
    Py_XDECREF(end);
    Py_DECREF(target);
    return call;
}

/* Send a command with one key.  Returns NULL, with or without an exception, if the Python code has to send it. */
static PyObject *
execute(Executor *self, PyObject *words, PyObject *timeout, PyObject *repeatable, PyObject *make)
{
    PyObject *command = PyDict_GetItemWithError(self->commands, PyTuple_GET_ITEM(words, 0));
    if (command == NULL) {
        return NULL;
    }
    PyObject *wire_name = NULL, *payload = NULL, *now = NULL, *safe = NULL, *call = NULL;
    int slot = 0;
    Py_INCREF(command);
    if (is_true(command, str.keyed) != 1 || (wire_name = PyObject_GetAttr(command, str.wire_name)) == NULL
        || (payload = pack_keyed(wire_name, words, &slot)) == NULL || (now = PyObject_CallNoArgs(self->seconds)) == NULL
        || !PyFloat_CheckExact(now)) {
        goto done;
    }
    double since = PyFloat_AS_DOUBLE(now), deadline;
    if (timeout == self->no_timeout) {
        deadline = since + self->limit;
    }
    else if (timeout == Py_None) {
        deadline = INFINITY;
    }
    else if (PyFloat_CheckExact(timeout) || PyLong_CheckExact(timeout)) {
        deadline = since + PyFloat_AsDouble(timeout);
    }
    else {
        goto done;
    }
    safe = repeatable == Py_True ? Py_NewRef(Py_True) : PyObject_GetAttr(command, str.repeatable);
    if (safe == NULL || PyErr_Occurred()) {
        goto done;
    }
    call = make_call(self, make, command, payload, slot, since, deadline, safe);
    if (call != NULL) {
        PyObject *destination = Py_NewRef(PyList_GET_ITEM(self->destinations, slot));
        PyObject *sent = PyObject_CallMethodOneArg(destination, str.send, call);
        Py_DECREF(destination);
        if (sent == NULL) {
            Py_CLEAR(call);
        }
        Py_XDECREF(sent);
    }
done:
    Py_DECREF(command);
    Py_XDECREF(wire_name);
    Py_XDECREF(payload);
    Py_XDECREF(now);
    Py_XDECREF(safe);
    return call;
}

/* Tell whether the arguments of `Router.execute` are those of a new command that this code can send. */
static int
is_usual(PyObject *const *args, Py_ssize_t count, PyObject *kwnames)
{
    if (kwnames != NULL
        && (PyTuple_GET_SIZE(kwnames) != 1 || PyUnicode_Compare(PyTuple_GET_ITEM(kwnames, 0), str.make) != 0)) {
        return 0;
    }
    return count >= 1 && count <= 6 && count != 3 && (count < 6 || kwnames == NULL) && PyTuple_CheckExact(args[0])
        && PyTuple_GET_SIZE(args[0]) >= 2 && PyUnicode_CheckExact(PyTuple_GET_ITEM(args[0], 0))
        && (count < 4 || PyBool_Check(args[3]))
        /* terms[1] says whether the command was accepted before. */
        && (count < 5 || (PyTuple_Check(args[4]) && PyTuple_GET_SIZE(args[4]) == 2
                          && PyTuple_GET_ITEM(args[4], 1) == Py_False));
}

/* execute(words, convert, timeout, repeatable, terms, make) */
static PyObject *
executor_call(Executor *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (!self->off && is_usual(args, count, kwnames)) {
        PyObject *timeout = count >= 4 ? args[2] : self->no_timeout;
        PyObject *make = kwnames != NULL ? args[count] : count == 6 ? args[5] : (PyObject *)call_class;
        PyObject *call = execute(self, args[0], timeout, count >= 4 ? args[3] : Py_False, make);
        if (call != NULL) {
            if (count < 2 || args[1] == Py_None) {
                return call;
            }
            PyObject *both[] = {call, self->converted, args[1]};
            PyObject *result = PyObject_VectorcallMethod(str.addCallback, both, 3, NULL);
            Py_DECREF(call);
            return result;
        }
        if (clear_error() < 0) {
            return NULL;
        }
    }
    PyObject *python = Py_NewRef(self->python), *done = PyObject_Vectorcall(python, args, count, kwnames);
    Py_DECREF(python);
    return done;
}

static int
executor_init(Executor *self, PyObject *args, PyObject *keywords)
{
    PyObject *python, *commands, *destinations, *seconds, *canceller, *no_timeout, *convert;
    double limit;
    if (!PyArg_ParseTuple(args, "OO!O!OdOOO", &python, &PyDict_Type, &commands, &PyList_Type, &destinations, &seconds,
                          &limit, &canceller, &no_timeout, &convert)) {
        return -1;
    }
    if (PyList_GET_SIZE(destinations) != 16384 || call_class == NULL) {
        PyErr_SetString(PyExc_ValueError, "there must be a destination for each slot, and the classes must be known");
        return -1;
    }
    Py_XSETREF(self->python, Py_NewRef(python));
    Py_XSETREF(self->commands, Py_NewRef(commands));
    Py_XSETREF(self->destinations, Py_NewRef(destinations));
    Py_XSETREF(self->seconds, Py_NewRef(seconds));
    Py_XSETREF(self->canceller, Py_NewRef(canceller));
    Py_XSETREF(self->no_timeout, Py_NewRef(no_timeout));
    Py_XSETREF(self->converted, Py_NewRef(convert));
    self->limit = limit;
    self->vectorcall = (vectorcallfunc)executor_call;
    return 0;
}

static PyMemberDef executor_members[] = {
    {"off", T_BOOL, offsetof(Executor, off), 0, NULL},
    {"python", T_OBJECT_EX, offsetof(Executor, python), 0, NULL},
    {NULL},
};

static PyTypeObject Executor_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "txvalkeycluster._fast.Executor",
    .tp_basicsize = sizeof(Executor),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Executor, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)executor_init,
    .tp_dealloc = (destructor)executor_dealloc,
    .tp_traverse = (traverseproc)executor_traverse,
    .tp_clear = (inquiry)executor_clear,
    .tp_members = executor_members,
};

/* ---- the module */

static PyObject *
configure(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"deferred", "failure", "got_result", "go_on", "raised", "raise_failure", NULL};
    PyObject *deferred, *failure, *got_result, *go_on, *raised, *raise_failure;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!OOOO", names, &PyType_Type, &deferred, &PyType_Type,
                                     &failure, &got_result, &go_on, &raised, &raise_failure)) {
        return NULL;
    }
    Py_XSETREF(known.deferred, Py_NewRef(deferred));
    Py_XSETREF(known.failure, Py_NewRef(failure));
    Py_XSETREF(known.got_result, Py_NewRef(got_result));
    Py_XSETREF(known.go_on, Py_NewRef(go_on));
    Py_XSETREF(known.raised, Py_NewRef(raised));
    Py_XSETREF(known.raise_failure, Py_NewRef(raise_failure));
    Py_RETURN_NONE;
}

static PyObject *
use_classes(PyObject *module, PyObject *args)
{
    PyTypeObject *call, *batch;
    if (!PyArg_ParseTuple(args, "O!O!", &PyType_Type, &call, &PyType_Type, &batch)) {
        return NULL;
    }
    if (!PyType_IsSubtype(call, &CallRecord_Type)) {
        PyErr_SetString(PyExc_TypeError, "the calls must be CallRecords");
        return NULL;
    }
    Py_XSETREF(call_class, (PyTypeObject *)Py_NewRef(call));
    Py_XSETREF(batch_class, (PyTypeObject *)Py_NewRef(batch));
    Py_RETURN_NONE;
}

static PyObject *
use_also(PyObject *module, PyObject *class)
{
    return PySet_Add(other_classes, class) < 0 ? NULL : Py_NewRef(class);
}

static PyMethodDef functions[] = {
    {"configure", (PyCFunction)(void (*)(void))configure, METH_VARARGS | METH_KEYWORDS, NULL},
    {"joined", joined, METH_O, NULL},
    {"use_also", use_also, METH_O, NULL},
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
    make_crc_table();
#define INTERN(name) \
    if ((str.name = PyUnicode_InternFromString(#name)) == NULL) { \
        return NULL; \
    }
    NAMES(INTERN)
#undef INTERN
    if ((no_bytes = PyBytes_FromStringAndSize(NULL, 0)) == NULL || (other_classes = PySet_New(NULL)) == NULL) {
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    PyTypeObject *types[] = {&CallRecord_Type, &Shortcut_Type, &SendQueue_Type, &Reader_Type, &Replies_Type, &Messages_Type, &Executor_Type};
    for (size_t place = 0; module != NULL && place < sizeof types / sizeof *types; place++) {
        if (PyModule_AddType(module, types[place]) < 0) {
            Py_CLEAR(module);
        }
    }
    return module;
}
