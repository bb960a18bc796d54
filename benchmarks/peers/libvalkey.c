/* Runs one workload of the benchmarks with the asynchronous cluster API of libvalkey.  libvalkey_.py compiles it.
 *
 *     libvalkey ADDRESSES WORKLOAD IN_FLIGHT SECONDS [CA_FILE]
 *
 * WORKLOAD is "set-get", "get:BYTES", "mget", "hgetall" or "pipeline".  The steps are those of ../workloads.py: the
 * same keys, the same values and the same checks of the replies.
 *
 * On success the program prints the fields of a Sample as one line of JSON.  On an error it prints one line to standard
 * error, and its exit status is 1.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include <valkey/cluster.h>
#ifdef WITH_TLS
#include <valkey/tls.h>
#endif

enum {
    KEYS = 10000,
    SMALL = 64,
    TAGGED = 100,
    NODES = 3,
    FIELDS = 50,
    COMMANDS = 10000,
    STRIDE = 7919,
    MOST_CONNECTIONS = 64,
    MOST_WORDS = 2 + 2 * FIELDS,
};

typedef struct {
    const char *start;
    size_t length;
} Text;

/* A worker has one step in progress.  It starts the next step when all replies of the step have come. */
typedef struct {
    unsigned number;
    int missing;
    double begun;
} Worker;

static valkeyClusterAsyncContext *client;
static Text keys[KEYS], tagged[TAGGED], names[FIELDS], contents[FIELDS], large_key;
static char small[SMALL];
static char *large;
static size_t large_size;

static void (*begin)(Worker *);
static double ends_at;
static long operations;
static int working;
static double *latencies;
static size_t latency_count, latency_room;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *allocated(void *memory) {
    if (memory == NULL)
        fail("out of memory");
    return memory;
}

static double seconds_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static Text text(const char *format, ...) {
    char buffer[64];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    char *copy = allocated(malloc((size_t)length + 1));
    memcpy(copy, buffer, (size_t)length + 1);
    return (Text){copy, (size_t)length};
}

/* The event loop.  poll() needs no call to add or remove an event, and there is one connection per node.  That is less
 * work than epoll does.  libvalkey's own adapters need a library each, or poll one connection at a time. */

static struct pollfd polled[MOST_CONNECTIONS];
static valkeyAsyncContext *contexts[MOST_CONNECTIONS];
static int connections;

static void add_read(void *entry) { ((struct pollfd *)entry)->events |= POLLIN; }
static void del_read(void *entry) { ((struct pollfd *)entry)->events &= ~POLLIN; }
static void add_write(void *entry) { ((struct pollfd *)entry)->events |= POLLOUT; }
static void del_write(void *entry) { ((struct pollfd *)entry)->events &= ~POLLOUT; }

static void clean_up(void *entry) {
    struct pollfd *place = entry;
    place->fd = -1; /* poll() ignores it. */
    contexts[place - polled] = NULL;
}

static int attach(valkeyAsyncContext *connection, void *unused) {
    (void)unused;
    if (connections == MOST_CONNECTIONS)
        return VALKEY_ERR;
    struct pollfd *place = &polled[connections];
    *place = (struct pollfd){.fd = connection->c.fd};
    contexts[connections++] = connection;
    connection->ev.addRead = add_read;
    connection->ev.delRead = del_read;
    connection->ev.addWrite = add_write;
    connection->ev.delWrite = del_write;
    connection->ev.cleanup = clean_up;
    connection->ev.data = place;
    return VALKEY_OK;
}

static void wait_for_events(void) {
    int count = connections;
    if (poll(polled, (nfds_t)count, -1) < 0) {
        if (errno != EINTR)
            fail("poll: %s", strerror(errno));
        return;
    }
    for (int place = 0; place < count; place++) {
        short ready = polled[place].revents;
        if (contexts[place] != NULL && ready & (POLLIN | POLLERR | POLLHUP))
            valkeyAsyncHandleRead(contexts[place]);
        if (contexts[place] != NULL && ready & POLLOUT)
            valkeyAsyncHandleWrite(contexts[place]);
    }
}

/* Commands and replies. */

static void send_command(valkeyClusterCallbackFn *callback, void *data, int count, const Text *words) {
    const char *starts[MOST_WORDS];
    size_t lengths[MOST_WORDS];
    for (int word = 0; word < count; word++) {
        starts[word] = words[word].start;
        lengths[word] = words[word].length;
    }
    if (valkeyClusterAsyncCommandArgv(client, callback, data, count, starts, lengths) != VALKEY_OK)
        fail("%s was not sent: %s", words[0].start, client->errstr);
}

static const valkeyReply *checked(const char *command, const void *received) {
    const valkeyReply *reply = received;
    if (reply == NULL)
        fail("%s has no reply: %s", command, client->errstr);
    if (reply->type == VALKEY_REPLY_ERROR)
        fail("%s: %s", command, reply->str);
    return reply;
}

static void expect(bool condition, const char *command) {
    if (!condition)
        fail("WrongReply: %s", command);
}

static bool is_small(const valkeyReply *reply) {
    return reply->type == VALKEY_REPLY_STRING && reply->len == SMALL && memcmp(reply->str, small, SMALL) == 0;
}

static void send_set(valkeyClusterCallbackFn *callback, void *data, Text key, Text value) {
    send_command(callback, data, 3, (Text[]){{"SET", 3}, key, value});
}

static void send_get(valkeyClusterCallbackFn *callback, void *data, Text key) {
    send_command(callback, data, 2, (Text[]){{"GET", 3}, key});
}

/* Workers. */

static void start_step(Worker *worker) {
    worker->begun = seconds_of(CLOCK_MONOTONIC);
    begin(worker);
}

static void end_step(Worker *worker, int done) {
    double now = seconds_of(CLOCK_MONOTONIC);
    operations += done;
    if (latency_count == latency_room) {
        latency_room = latency_room ? 2 * latency_room : 65536;
        latencies = allocated(realloc(latencies, latency_room * sizeof *latencies));
    }
    latencies[latency_count++] = now - worker->begun;
    worker->number++;
    if (now < ends_at)
        start_step(worker);
    else
        working--;
}

static void run_workers(int count, double seconds) {
    Worker *workers = allocated(calloc((size_t)count, sizeof *workers));
    operations = 0;
    latency_count = 0;
    working = count;
    ends_at = seconds_of(CLOCK_MONOTONIC) + seconds;
    for (int place = 0; place < count; place++) {
        workers[place].number = (unsigned)place * STRIDE;
        start_step(&workers[place]);
    }
    while (working > 0)
        wait_for_events();
    free(workers);
}

/* The steps. */

static void got_small(valkeyClusterAsyncContext *unused, void *reply, void *data) {
    (void)unused;
    expect(is_small(checked("GET", reply)), "GET");
    end_step(data, 2);
}

static void stored_small(valkeyClusterAsyncContext *unused, void *reply, void *data) {
    (void)unused;
    Worker *worker = data;
    checked("SET", reply);
    send_get(got_small, worker, keys[worker->number % KEYS]);
}

static void begin_set_get(Worker *worker) {
    send_set(stored_small, worker, keys[worker->number % KEYS], (Text){small, SMALL});
}

static void got_large(valkeyClusterAsyncContext *unused, void *reply, void *data) {
    (void)unused;
    expect(checked("GET", reply)->len == large_size, "GET");
    end_step(data, 1);
}

static void begin_get(Worker *worker) { send_get(got_large, worker, large_key); }

static void got_many(valkeyClusterAsyncContext *unused, void *received, void *data) {
    (void)unused;
    Worker *worker = data;
    const valkeyReply *reply = checked("MGET", received);
    expect(reply->elements == TAGGED / NODES || reply->elements == TAGGED / NODES + 1, "MGET");
    for (size_t place = 0; place < reply->elements; place++)
        expect(is_small(reply->element[place]), "MGET");
    if (--worker->missing == 0)
        end_step(worker, 1);
}

static void begin_mget(Worker *worker) {
    worker->missing = NODES;
    for (int node = 0; node < NODES; node++) {
        Text words[1 + TAGGED] = {{"MGET", 4}};
        int count = 1;
        for (int number = node; number < TAGGED; number += NODES)
            words[count++] = tagged[number];
        send_command(got_many, worker, count, words);
    }
}

static void got_hash(valkeyClusterAsyncContext *unused, void *reply, void *data) {
    (void)unused;
    expect(checked("HGETALL", reply)->elements == 2 * FIELDS, "HGETALL");
    end_step(data, 1);
}

static void begin_hgetall(Worker *worker) {
    send_command(got_hash, worker, 2, (Text[]){{"HGETALL", 7}, {"hash", 4}});
}

static void got_one(valkeyClusterAsyncContext *unused, void *reply, void *data) {
    (void)unused;
    Worker *worker = data;
    checked("pipeline", reply);
    if (--worker->missing == 0)
        end_step(worker, COMMANDS);
}

static void begin_pipeline(Worker *worker) {
    worker->missing = COMMANDS;
    for (int number = 0; number < COMMANDS; number++) {
        if (number % 2)
            send_set(got_one, worker, keys[number], (Text){"v", 1});
        else
            send_get(got_one, worker, keys[number]);
    }
}

/* What a workload reads is written first. */

static void prepared(valkeyClusterAsyncContext *unused, void *reply, void *data) {
    (void)unused;
    checked("a command that prepares the workload", reply);
    --*(int *)data;
}

static void prepare(const char *workload) {
    int missing = 0;
    if (strcmp(workload, "set-get") == 0) {
        begin = begin_set_get;
    } else if (strncmp(workload, "get:", 4) == 0) {
        begin = begin_get;
        large_size = strtoul(workload + 4, NULL, 10);
        large = allocated(malloc(large_size));
        memset(large, 'x', large_size);
        large_key = text("large:%zu", large_size);
        missing = 1;
        send_set(prepared, &missing, large_key, (Text){large, large_size});
    } else if (strcmp(workload, "mget") == 0) {
        begin = begin_mget;
        missing = TAGGED;
        for (int number = 0; number < TAGGED; number++)
            send_set(prepared, &missing, tagged[number], (Text){small, SMALL});
    } else if (strcmp(workload, "hgetall") == 0) {
        begin = begin_hgetall;
        Text words[2 + 2 * FIELDS] = {{"HSET", 4}, {"hash", 4}};
        for (int number = 0; number < FIELDS; number++) {
            words[2 + 2 * number] = names[number];
            words[3 + 2 * number] = contents[number];
        }
        missing = 1;
        send_command(prepared, &missing, 2 + 2 * FIELDS, words);
    } else if (strcmp(workload, "pipeline") == 0) {
        begin = begin_pipeline;
    } else {
        fail("there is no workload %s", workload);
    }
    while (missing > 0)
        wait_for_events();
}

static void connect_client(const char *addresses, const char *ca) {
    valkeyClusterOptions options = {0};
    options.initial_nodes = addresses;
    options.options = VALKEY_OPT_BLOCKING_INITIAL_UPDATE;
    options.attach_fn = attach;
    if (ca != NULL) {
#ifdef WITH_TLS
        valkeyTLSContextError error = VALKEY_TLS_CTX_NONE;
        valkeyInitOpenSSL();
        options.tls = valkeyCreateTLSContext(ca, NULL, NULL, NULL, NULL, &error);
        if (options.tls == NULL)
            fail("TLS: %s", valkeyTLSContextGetError(error));
        options.tls_init_fn = valkeyInitiateTLSWithContext;
#else
        fail("this program was compiled without TLS");
#endif
    }
    client = valkeyClusterAsyncConnectWithOptions(&options);
    if (client == NULL || client->err)
        fail("cannot connect: %s", client == NULL ? "out of memory" : client->errstr);
}

static int by_value(const void *one, const void *other) {
    double first = *(const double *)one, second = *(const double *)other;
    return (first > second) - (first < second);
}

static double share(double of_all) {
    size_t place = (size_t)((double)latency_count * of_all);
    return latencies[place < latency_count ? place : latency_count - 1];
}

int main(int count, char **words) {
    if (count != 5 && count != 6)
        fail("usage: %s ADDRESSES WORKLOAD IN_FLIGHT SECONDS [CA_FILE]", words[0]);
    int in_flight = atoi(words[3]);
    double seconds = atof(words[4]);
    signal(SIGPIPE, SIG_IGN);

    memset(small, 'x', SMALL);
    for (int number = 0; number < KEYS; number++)
        keys[number] = text("key:%d", number);
    for (int number = 0; number < TAGGED; number++)
        tagged[number] = text("{%c}:%d", "abc"[number % NODES], number);
    for (int number = 0; number < FIELDS; number++) {
        names[number] = text("field:%d", number);
        contents[number] = text("value:%d", number);
    }
    connect_client(words[1], count == 6 ? words[5] : NULL);
    prepare(words[2]);
    run_workers(in_flight, seconds / 5); /* Warm-up: all connections are opened. */

    double cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID), begun = seconds_of(CLOCK_MONOTONIC);
    run_workers(in_flight, seconds);
    double elapsed = seconds_of(CLOCK_MONOTONIC) - begun, spent = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;

    qsort(latencies, latency_count, sizeof *latencies, by_value);
    printf("{\"operations\": %ld, \"seconds\": %.9f, \"cpu_seconds\": %.9f, \"latencies\": [%.9f, %.9f, %.9f]}\n",
           operations, elapsed, spent, share(0.5), share(0.99), share(0.999));
    return 0;
}
