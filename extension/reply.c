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

/* Call a method of asyncio.Future. */
static PyObject *
future_method(PyObject *self, PyObject *name, PyObject *argument)
{
    PyObject *function = PyObject_GetAttr((PyObject *)future, name);
    if (function == NULL) {
        return NULL;
    }
    PyObject *args[] = {self, argument}, *done = PyObject_Vectorcall(function, args, 2, NULL);
    Py_DECREF(function);
    return done;
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
    PyObject *function = PyObject_GetAttr((PyObject *)future, fast_str.add_done_callback);
    PyObject *all[4] = {self}, *done = NULL;
    if (function != NULL && count + named <= 3) {
        for (Py_ssize_t place = 0; place < count + named; place++) {
            all[place + 1] = args[place];
        }
        done = PyObject_Vectorcall(function, all, count + 1, kwnames);
    }
    else if (function != NULL) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback() takes one argument, and context");
    }
    Py_XDECREF(function);
    return done;
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
    PyObject *done = future_method(self, fast_str.set_result, value);
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
