/* A future of asyncio that is also the request of its command: `aio.reply`. */

#include "fast.h"

PyTypeObject *fast_reply_class;

/* What a reply has besides the attributes of asyncio.Future, whose size depends on the version of Python. */
typedef struct {
    PyObject *payload, *command, *target, *history, *repeatable, *canceller, *convert;
    /* continues the task that was the first to wait, and the context of the task */
    PyObject *task, *context;
    double since, deadline;
    char called;
} Fields;

static PyTypeObject *future;
static Py_ssize_t offset;
/* asyncio.Task; asyncio.current_task; the tasks that run now, or None if it is not known; `converters.converted` */
static PyObject *task_class, *current_task, *current_tasks, *converted;
/* asyncio.Future.set_result */
static PyObject *set_result;

static Fields *
fields_of(PyObject *self)
{
    return (Fields *)((char *)self + offset);
}

static int
reply_traverse(PyObject *self, visitproc visit, void *arg)
{
    Fields *fields = fields_of(self);
    Py_VISIT(fields->payload);
    Py_VISIT(fields->command);
    Py_VISIT(fields->target);
    Py_VISIT(fields->history);
    Py_VISIT(fields->repeatable);
    Py_VISIT(fields->canceller);
    Py_VISIT(fields->convert);
    Py_VISIT(fields->task);
    Py_VISIT(fields->context);
    if (!(future->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
        /* Else the base class visits it. */
        Py_VISIT(Py_TYPE(self));
    }
    return future->tp_traverse(self, visit, arg);
}

static void
clear_fields(Fields *fields)
{
    Py_CLEAR(fields->payload);
    Py_CLEAR(fields->command);
    Py_CLEAR(fields->target);
    Py_CLEAR(fields->history);
    Py_CLEAR(fields->repeatable);
    Py_CLEAR(fields->canceller);
    Py_CLEAR(fields->convert);
    Py_CLEAR(fields->task);
    Py_CLEAR(fields->context);
}

static int
reply_clear(PyObject *self)
{
    clear_fields(fields_of(self));
    return future->tp_clear(self);
}

static void
reply_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear_fields(fields_of(self));
    future->tp_dealloc(self);
    if (!(future->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
        Py_DECREF(type);
    }
}

/* add_done_callback(function, *, context=None) */
static PyObject *
reply_add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *kwnames)
{
    Fields *fields = fields_of(self);
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (count == 1 && named <= 1 && fields->task == NULL && !fields->called && PyCFunction_Check(args[0])
        && PyCFunction_GET_SELF(args[0]) != NULL && (PyObject *)Py_TYPE(PyCFunction_GET_SELF(args[0])) == task_class
        && (named == 0 || PyUnicode_Compare(PyTuple_GET_ITEM(kwnames, 0), fast_str.context) == 0)) {
        fields->task = Py_NewRef(args[0]);
        fields->context = named == 0 || args[1] == Py_None ? NULL : Py_NewRef(args[1]);
        Py_RETURN_NONE;
    }
    return fast_base_method((PyObject *)future, self, fast_str.add_done_callback, args, count, kwnames);
}

/* Tell whether a task runs its step now; -1 after an error. */
static int
in_a_task(void)
{
    if (PyDict_CheckExact(current_tasks) && PyDict_GET_SIZE(current_tasks) == 0) {
        return 0;
    }
    PyObject *task = PyObject_CallNoArgs(current_task);
    Py_XDECREF(task);
    return task == NULL ? -1 : task != Py_None;
}

/* Let the waiting task continue. */
static int
go_on(PyObject *self, Fields *fields)
{
    int later = fields->context == NULL || !PyContext_CheckExact(fields->context) ? 1 : in_a_task();
    if (later) {
        /* One task cannot run within a step of another one. */
        PyObject *done = later < 0 ? NULL : PyObject_CallMethodNoArgs(self, fast_str._continue_later);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    PyObject *task = Py_NewRef(fields->task), *context = Py_NewRef(fields->context), *done = NULL;
    int failed = PyContext_Enter(context);
    if (!failed) {
        done = PyObject_CallOneArg(task, self);
        PyObject *error = done == NULL ? fast_take_error() : NULL;
        failed = PyContext_Exit(context);
        if (error != NULL) {
            failed = failed ? -1 : fast_tell(self, fast_str._step_failed, error);
            Py_DECREF(error);
        }
    }
    Py_XDECREF(done);
    Py_DECREF(task);
    Py_DECREF(context);
    return failed ? -1 : 0;
}

static int
end_reply(PyObject *self, PyObject *result)
{
    Fields *fields = fields_of(self);
    PyObject *value = Py_NewRef(result);
    fields->called = 1;
    if (fields->convert != NULL && fields->convert != Py_None) {
        PyObject *args[] = {result, fields->convert};
        Py_SETREF(value, PyObject_Vectorcall(converted, args, 2, NULL));
        if (value == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_Exception)) {
                return -1;
            }
            PyObject *error = fast_take_error();
            int failed = fast_tell(self, fast_str.errback, error);
            Py_DECREF(error);
            return failed;
        }
    }
    PyObject *args[] = {self, value}, *done = PyObject_Vectorcall(set_result, args, 2, NULL);
    Py_DECREF(value);
    Py_XDECREF(done);
    if (done == NULL) {
        return -1;
    }
    return fields->task == NULL ? 0 : go_on(self, fields);
}

static PyObject *
reply_callback(PyObject *self, PyObject *result)
{
    return end_reply(self, result) < 0 ? NULL : Py_NewRef(Py_None);
}

int
fast_answer_reply(PyObject *self, PyObject *result)
{
    Py_XSETREF(fields_of(self)->payload, Py_NewRef(fast_no_bytes));
    return end_reply(self, result);
}

int
fast_reply_state(PyObject *self)
{
    Fields *fields = fields_of(self);
    return fields->called ? 0 : fields->history == NULL || fields->history == Py_None ? 1 : -1;
}

PyObject *
fast_make_reply(PyObject *command, PyObject *payload, PyObject *target, double since, double deadline,
                PyObject *repeatable, PyObject *canceller)
{
    static PyObject *nothing;
    if (nothing == NULL && (nothing = PyTuple_New(0)) == NULL) {
        return NULL;
    }
    PyObject *self = fast_reply_class->tp_new(fast_reply_class, nothing, NULL);
    if (self == NULL || future->tp_init(self, nothing, NULL) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    Fields *fields = fields_of(self);
    fields->command = Py_NewRef(command);
    fields->payload = Py_NewRef(payload);
    fields->target = Py_NewRef(target);
    fields->repeatable = Py_NewRef(repeatable);
    fields->canceller = Py_NewRef(canceller);
    fields->since = since;
    fields->deadline = deadline;
    return self;
}

static PyMethodDef reply_methods[] = {
    {"add_done_callback", (PyCFunction)(void (*)(void))reply_add_done_callback, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"callback", reply_callback, METH_O, NULL},
    {NULL},
};

#define MEMBER(name, field, kind) {name, kind, offsetof(Fields, field), 0, NULL}
static PyMemberDef reply_members[] = {
    MEMBER("payload", payload, T_OBJECT),
    MEMBER("command", command, T_OBJECT),
    MEMBER("target", target, T_OBJECT),
    MEMBER("history", history, T_OBJECT),
    MEMBER("repeatable", repeatable, T_OBJECT),
    MEMBER("_canceller", canceller, T_OBJECT),
    MEMBER("convert", convert, T_OBJECT),
    MEMBER("_task", task, T_OBJECT),
    MEMBER("_context", context, T_OBJECT),
    MEMBER("since", since, T_DOUBLE),
    MEMBER("deadline", deadline, T_DOUBLE),
    MEMBER("called", called, T_BOOL),
    {NULL},
};
#undef MEMBER

static PyType_Slot reply_slots[] = {
    {Py_tp_dealloc, reply_dealloc}, {Py_tp_traverse, reply_traverse}, {Py_tp_clear, reply_clear},
    {Py_tp_methods, reply_methods}, {Py_tp_members, reply_members},   {0, NULL},
};

static PyType_Spec reply_spec = {
    .name = "txvalkeycluster._fast.ReplyRecord",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = reply_slots,
};

/* reply_record(future, task, current_task, current_tasks, converted) */
PyObject *
fast_reply_record(PyObject *module, PyObject *args)
{
    PyTypeObject *base;
    PyObject *task, *current, *currents, *convert;
    if (!PyArg_ParseTuple(args, "O!OOOO", &PyType_Type, &base, &task, &current, &currents, &convert)) {
        return NULL;
    }
    if (future != NULL || base->tp_itemsize != 0 || base->tp_traverse == NULL || base->tp_clear == NULL) {
        PyErr_SetString(PyExc_ValueError, "there is a class already, or the base class cannot be extended");
        return NULL;
    }
    offset = (base->tp_basicsize + (Py_ssize_t)sizeof(void *) - 1) & ~((Py_ssize_t)sizeof(void *) - 1);
    reply_spec.basicsize = (int)(offset + (Py_ssize_t)sizeof(Fields));
    for (PyMemberDef *member = reply_members; member->name != NULL; member++) {
        member->offset += offset;
    }
    if ((set_result = PyObject_GetAttr((PyObject *)base, fast_str.set_result)) == NULL) {
        return NULL;
    }
    future = (PyTypeObject *)Py_NewRef(base);
    task_class = Py_NewRef(task);
    current_task = Py_NewRef(current);
    current_tasks = Py_NewRef(currents);
    converted = Py_NewRef(convert);
    PyObject *bases = PyTuple_Pack(1, base);
    PyObject *made = bases == NULL ? NULL : PyType_FromSpecWithBases(&reply_spec, bases);
    Py_XDECREF(bases);
    return made;
}

/* Sends the commands of a client for asyncio: `send`. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *python, *loop, *running_loop;
    Executor *executor;
} ReplySender;

static int
sender_traverse(ReplySender *self, visitproc visit, void *arg)
{
    Py_VISIT(self->python);
    Py_VISIT(self->loop);
    Py_VISIT(self->running_loop);
    Py_VISIT(self->executor);
    return 0;
}

static int
sender_clear(ReplySender *self)
{
    Py_CLEAR(self->python);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->running_loop);
    Py_CLEAR(self->executor);
    return 0;
}

static void
sender_dealloc(ReplySender *self)
{
    PyObject_GC_UnTrack(self);
    sender_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Tell whether the event loop of the client runs in this thread; -1 after an error. */
static int
is_running(ReplySender *self)
{
    PyObject *running = PyObject_CallNoArgs(self->running_loop);
    Py_XDECREF(running);
    return running == NULL ? -1 : running == self->loop;
}

/* sender(words, convert=None) */
static PyObject *
sender_call(ReplySender *self, PyObject *const *args, size_t flags, PyObject *kwnames)
{
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    int running = kwnames == NULL && (count == 1 || count == 2) && fast_reply_class != NULL ? is_running(self) : 0;
    if (running < 0) {
        return NULL;
    }
    if (running) {
        PyObject *reply = fast_execute(self->executor, args[0], (PyObject *)fast_reply_class);
        if (reply != NULL) {
            if (count == 2 && args[1] != Py_None) {
                Py_XSETREF(fields_of(reply)->convert, Py_NewRef(args[1]));
            }
            return reply;
        }
        if (fast_clear_error() < 0) {
            return NULL;
        }
    }
    return PyObject_Vectorcall(self->python, args, count, kwnames);
}

static int
sender_init(ReplySender *self, PyObject *args, PyObject *keywords)
{
    PyObject *python, *executor, *loop, *running_loop;
    if (!PyArg_ParseTuple(args, "OO!OO", &python, &fast_Executor, &executor, &loop, &running_loop)) {
        return -1;
    }
    Py_XSETREF(self->python, Py_NewRef(python));
    Py_XSETREF(self->executor, (Executor *)Py_NewRef(executor));
    Py_XSETREF(self->loop, Py_NewRef(loop));
    Py_XSETREF(self->running_loop, Py_NewRef(running_loop));
    self->vectorcall = (vectorcallfunc)sender_call;
    return 0;
}

PyTypeObject fast_ReplySender = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "txvalkeycluster._fast.ReplySender",
    .tp_basicsize = sizeof(ReplySender),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(ReplySender, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)sender_init,
    .tp_dealloc = (destructor)sender_dealloc,
    .tp_traverse = (traverseproc)sender_traverse,
    .tp_clear = (inquiry)sender_clear,
};
