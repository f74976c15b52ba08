"""Locks and their kin: what they promise to `multiprocessing`'s users, and what killed processes cannot do to them."""

import copy
import inspect
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing import synchronize as stdlib

import pytest

import procession
from procession import synchronize

PATIENCE = 60
FORK = procession.get_context("fork")
LOCKS = ["Lock", "RLock", "Condition"]


def until(condition):
    """Wait until a condition is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def start(ctx, target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def kill(process):
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def end(*processes):
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0


#
# As multiprocessing
#

CALLS = [
    lambda s, c: c.Semaphore(-1),
    lambda s, c: c.BoundedSemaphore(-1),
    lambda s, c: repr(c.Semaphore(2**31 - 1)),
    lambda s, c: repr(c.BoundedSemaphore(2**31 - 1)),
    lambda s, c: c.Semaphore("x"),
    lambda s, c: c.BoundedSemaphore(None),
    lambda s, c: c.Semaphore(1.5),
    lambda s, c: repr(c.Semaphore(True)),
    lambda s, c: repr(c.BoundedSemaphore(0)),
    lambda s, c: c.BoundedSemaphore(0).release(),
    lambda s, c: c.Semaphore(2**31 - 1).release(),
    lambda s, c: c.Lock().release(),
    lambda s, c: c.RLock().release(),
    lambda s, c: c.Lock().acquire(),
    lambda s, c: c.Lock().acquire(1),
    lambda s, c: c.Lock().acquire(False),
    lambda s, c: c.Semaphore(0).acquire(False),
    lambda s, c: c.Semaphore(0).acquire(False, 5),
    lambda s, c: c.Semaphore(0).acquire(True, 0.01),
    lambda s, c: c.Semaphore(0).acquire(True, -1),
    lambda s, c: c.Semaphore(0).acquire(block=True, timeout=0),
    lambda s, c: c.Semaphore(0).acquire(True, "x"),
    lambda s, c: c.Semaphore(0).acquire(False, "x"),
    lambda s, c: c.Lock().__exit__(),
    lambda s, c: c.Lock().__enter__(),
    lambda s, c: c.Condition().__enter__(),
    lambda s, c: s.Lock(),
    lambda s, c: s.RLock(),
    lambda s, c: s.Semaphore(),
    lambda s, c: s.BoundedSemaphore(3),
    lambda s, c: s.Condition(),
    lambda s, c: s.Event(),
    lambda s, c: s.Barrier(2),
    lambda s, c: repr(s.Lock(ctx=c)),
    lambda s, c: repr(s.RLock(ctx=c)),
    lambda s, c: repr(s.Semaphore(3, ctx=c)),
    lambda s, c: repr(s.BoundedSemaphore(3, ctx=c)),
    lambda s, c: repr(s.Condition(ctx=c)),
    lambda s, c: repr(s.Condition(s.Lock(ctx=c), ctx=c)),
    lambda s, c: c.Condition().wait(),
    lambda s, c: c.Condition().notify(),
    lambda s, c: c.Condition().notify_all(),
    lambda s, c: c.Condition().release(),
    lambda s, c: c.Condition(c.Lock()).release(),
    lambda s, c: c.Condition().wait_for(lambda: 5),
    lambda s, c: held(c.Condition(), lambda condition: repr(condition)),
    lambda s, c: held(c.Condition(), lambda condition: condition.wait(0)),
    lambda s, c: held(c.Condition(), lambda condition: condition.wait(-1)),
    lambda s, c: held(c.Condition(c.Lock()), lambda condition: condition.wait(0.01)),
    lambda s, c: held(c.Condition(), lambda condition: condition.wait_for(lambda: 0, -1)),
    lambda s, c: held(c.Condition(), lambda condition: condition.wait_for(lambda: 0.0, 0.01)),
    lambda s, c: held(c.Condition(), lambda condition: condition.notify(5)),
    lambda s, c: held(c.Condition(), lambda condition: condition.notify(n=sys.maxsize)),
    lambda s, c: held(c.Condition(), lambda condition: condition.notify(-1)),
    lambda s, c: held(c.Condition(), lambda condition: condition.notify_all()),
    lambda s, c: held(c.Lock(), repr),
    lambda s, c: held(c.RLock(), repr),
    lambda s, c: held(c.RLock(), lambda lock: held(lock, repr)),
    lambda s, c: c.Event().wait(-1),
    lambda s, c: c.Event().wait(0.01),
    lambda s, c: c.Event().set(),
    lambda s, c: c.Event().clear(),
    lambda s, c: c.Event().is_set(),
    lambda s, c: c.Barrier(1).wait(),
    lambda s, c: c.Barrier(1).wait(-1),
    lambda s, c: c.Barrier(2).wait(-1),
    lambda s, c: c.Barrier(2).wait(0.01),
    lambda s, c: c.Barrier(2, timeout=0.01).wait(),
    lambda s, c: c.Barrier(1, lambda: 1 / 0).wait(),
    lambda s, c: (c.Barrier(3).parties, c.Barrier(3).n_waiting, c.Barrier(3).broken),
    lambda s, c: isinstance(c.Barrier(2), threading.Barrier),
    lambda s, c: [isinstance(lock, s.SemLock) for lock in (c.Lock(), c.RLock(), c.Semaphore(), c.Condition())],
    lambda s, c: issubclass(s.BoundedSemaphore, s.Semaphore),
    lambda s, c: (s.__all__, s.SEM_VALUE_MAX, s.SEMAPHORE, s.RECURSIVE_MUTEX),
]


def held(lock, function):
    with lock:
        return function(lock)


def outcome(call, module, context):
    try:
        return call(module, context)
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: inspect.getsource(call).strip().removeprefix("lambda s, c: "))
def test_does_what_the_standard_library_does(call):
    expected = outcome(call, stdlib, multiprocessing.get_context("fork"))
    assert outcome(call, synchronize, FORK) == expected


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
def test_acquire_can_be_called_in_many_ways(kind):
    lock = getattr(FORK, kind)()
    for arguments in [(), (True,), (False,), (1,), ("",), (True, None), (True, 1), (False, 1.5)]:
        assert lock.acquire(*arguments) is True
        assert lock.release() is None
    for named in [{"block": True}, {"block": 0}, {"timeout": 1}, {"block": False, "timeout": None}]:
        assert lock.acquire(**named) is True
        assert lock.release() is None
    assert type(lock).acquire(lock) is True
    assert type(lock).__exit__(lock, None, None, None) is None
    assert type(lock).__enter__(lock) is True
    assert lock.__exit__(exc_type=None) is None


@pytest.mark.parametrize("kind", ["Lock", "Semaphore"])
def test_acquire_in_vain_can_be_called_in_many_ways(kind):
    lock = getattr(FORK, kind)()
    with lock:
        for arguments in [(False,), (0,), (None,), (True, 0.01), (True, -1), (False, 5)]:
            assert lock.acquire(*arguments) is False
        assert lock.acquire(timeout=0) is False
        assert lock.acquire(block=False) is False


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
@pytest.mark.parametrize(
    "call",
    [
        lambda lock: lock.acquire(True, 1, 2),
        lambda lock: lock.acquire(True, block=True),
        lambda lock: lock.acquire(patience=1),
        lambda lock: lock.acquire(timeout="1"),
        lambda lock: lock.release(1),
        lambda lock: lock.__enter__(1),
        lambda lock: lock.__exit__(1, 2, 3, 4),
        lambda lock: type(lock).acquire(),
        lambda lock: type(lock).acquire(1),
    ],
    ids=lambda call: inspect.getsource(call).strip(),
)
def test_wrong_arguments_leave_a_lock_as_it_is(kind, call):
    lock = getattr(FORK, kind)()
    with pytest.raises(TypeError):
        call(lock)
    assert lock._get_value() == 1


@pytest.mark.parametrize("name", [*LOCKS, "Semaphore", "BoundedSemaphore", "Event", "Barrier"])
def test_has_the_methods_of_the_standard_library(name):
    args = (2,) if name == "Barrier" else ()
    theirs = getattr(multiprocessing.get_context("fork"), name)(*args)
    ours = getattr(FORK, name)(*args)
    public = {attribute for attribute in dir(theirs) if not attribute.startswith("_")}
    assert public <= set(dir(ours))
    assert type(ours).__name__ == name


def test_a_barrier_for_nobody_is_refused():
    for parties in (0, -1):
        with pytest.raises(ValueError, match="parties must be > 0"):
            FORK.Barrier(parties)


def test_says_whether_it_is_locked():
    for lock in (FORK.Lock(), FORK.RLock(), FORK.Semaphore(1)):
        assert not lock.locked()
        with lock:
            assert lock.locked()
        assert not lock.locked()


def test_names_the_thread_that_owns_a_lock():
    def take(lock, texts):
        lock.acquire()
        texts.append(repr(lock))

    for lock in (FORK.Lock(), FORK.RLock()):
        texts = []
        thread = threading.Thread(target=take, args=(lock, texts), name="T")
        thread.start()
        thread.join()
        assert "MainProcess|T" in texts[0]
        assert "SomeOtherThread" in repr(lock)


def _take(lock, taken):
    lock.acquire()
    taken.set()
    time.sleep(PATIENCE)


def test_names_another_process_that_owns_a_lock(ctx):
    for lock in (ctx.Lock(), ctx.RLock()):
        taken = ctx.Event()
        process = start(ctx, _take, lock, taken)
        assert taken.wait(PATIENCE)
        assert "SomeOtherProcess" in repr(lock)
        kill(process)


def test_subclasses_may_have_constructors_of_their_own():
    class Named(synchronize.Semaphore):
        def __init__(self, name):
            super().__init__(2, ctx=FORK)
            self.name = name

    assert (Named("a").get_value(), Named("a").name) == (2, "a")

    class Gate(synchronize.Condition):
        def __init__(self, name):
            super().__init__(ctx=FORK)

    with Gate("b") as taken:
        assert taken


def test_what_was_not_initialised_says_so():
    for kind in (synchronize.Semaphore, synchronize.Condition, synchronize.Barrier):
        with pytest.raises(RuntimeError, match="__init__"):
            kind.__new__(kind).__reduce__()


def test_a_condition_needs_a_lock_of_ours():
    for lock in (3, threading.Lock(), multiprocessing.get_context("fork").Lock()):
        with pytest.raises(TypeError, match="must be a Lock or RLock"):
            FORK.Condition(lock)


def test_locks_are_only_memory():
    before = len(os.listdir("/proc/self/fd"))
    locks = [FORK.Lock() for _ in range(20_000)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert all(lock.acquire(False) for lock in locks)


def test_a_timeout_beyond_the_clock_is_none():
    lock = FORK.Lock()
    assert lock.acquire(True, float("inf"))
    with pytest.raises(ValueError, match="NaN"):
        lock.acquire(True, float("nan"))


#
# Between processes
#


def _release(lock):
    lock.release()


def test_any_process_may_release_a_lock(ctx):
    lock = ctx.Lock()
    lock.acquire()
    end(start(ctx, _release, lock))
    assert lock.acquire(False)


def _is_not_mine(lock):
    assert not lock.acquire(False)
    with pytest.raises(AssertionError, match="not owned by thread"):
        lock.release()


def test_only_the_owner_may_release_a_recursive_lock(ctx):
    lock = ctx.RLock()
    with lock:
        end(start(ctx, _is_not_mine, lock))
        thread = threading.Thread(target=_is_not_mine, args=(lock,))
        thread.start()
        thread.join()
        with lock:
            assert repr(lock) == "<RLock(MainProcess, 2)>"


def _count(lock, value, times):
    for _ in range(times):
        with lock:
            value[0] += 1


@pytest.mark.parametrize("kind", [*LOCKS, "Semaphore", "BoundedSemaphore"])
def test_excludes_others(ctx, kind):
    lock = getattr(ctx, kind)()
    value = procession.RawArray("i", 1)
    end(*[start(ctx, _count, lock, value, 3000) for _ in range(3)])
    assert value[0] == 9000


def test_a_process_forked_by_others_can_use_them():
    lock, event = FORK.Lock(), FORK.Event()
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        lock.release()
        event.set()
        os._exit(0)
    assert event.wait(PATIENCE)
    assert lock.acquire(True, PATIENCE)
    assert os.waitpid(pid, 0)[1] == 0


def _use_all(queue):
    lock, rlock, semaphore, bounded, condition, event, barrier = queue.get()
    assert condition._lock is lock
    with rlock, semaphore, bounded, condition:
        condition.notify()
    event.set()
    assert barrier.wait(PATIENCE) in (0, 1)


def test_travel_through_a_queue(ctx):
    queue = ctx.Queue()
    process = start(ctx, _use_all, queue)
    lock = ctx.Lock()
    condition, event, barrier = ctx.Condition(lock), ctx.Event(), ctx.Barrier(2)
    with condition:
        queue.put((lock, ctx.RLock(), ctx.Semaphore(), ctx.BoundedSemaphore(2), condition, event, barrier))
        assert condition.wait(PATIENCE)
    assert event.wait(PATIENCE)
    barrier.wait(PATIENCE)
    end(process)


def test_a_pickle_outside_of_a_message_names_the_object():
    lock = synchronize.Lock(ctx=FORK, strict=True)
    for other in (pickle.loads(pickle.dumps(lock)), copy.copy(lock), copy.deepcopy(lock)):
        with lock:
            assert other.locked() and other.strict
            assert not other.acquire(False)
        assert not other.locked()
    condition = FORK.Condition(lock)
    again_lock, again = pickle.loads(pickle.dumps((lock, condition)))
    assert again._lock is again_lock
    with again:
        assert lock.locked()
    barrier = FORK.Barrier(1, timeout=3)
    assert pickle.loads(pickle.dumps(barrier)).wait() == 0


def test_the_name_of_what_nobody_holds_opens_nothing():
    pickled = pickle.dumps(FORK.Lock())
    with pytest.raises(ValueError, match="no longer exists"):
        pickle.loads(pickled)


def _meet(barrier, passed):
    for _ in range(200):
        index = barrier.wait(PATIENCE)
        with passed.get_lock():
            passed.value += index


def test_a_barrier_lets_all_through(ctx):
    barrier, passed = ctx.Barrier(3), ctx.Value("i", 0)
    end(*[start(ctx, _meet, barrier, passed) for _ in range(3)])
    assert passed.value == 200 * 3
    assert barrier.n_waiting == 0 and not barrier.broken


def _meet_and_fail(barrier):
    try:
        barrier.wait(PATIENCE)
    except threading.BrokenBarrierError:
        return
    raise AssertionError("got through")


def _fail():
    raise KeyError("action")


def test_an_action_that_fails_breaks_the_barrier(ctx):
    barrier = ctx.Barrier(2, _fail)
    process = start(ctx, _meet_and_fail, barrier)
    until(lambda: barrier.n_waiting == 1)
    with pytest.raises(KeyError):
        barrier.wait(PATIENCE)
    end(process)
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken


def test_reset_and_abort_send_away_who_waits(ctx):
    barrier = ctx.Barrier(2)
    for send_away in (barrier.reset, barrier.abort):
        process = start(ctx, _meet_and_fail, barrier)
        until(lambda: barrier.n_waiting == 1)
        send_away()
        end(process)
    assert barrier.broken


def _await(event):
    assert event.wait(PATIENCE)


def _await_turn(condition):
    with condition:
        assert condition.wait(PATIENCE)


def test_notify_wakes_exactly_so_many(ctx):
    condition = ctx.Condition()
    processes = [start(ctx, _await_turn, condition) for _ in range(3)]
    until(lambda: condition._waiting() == 3)
    with condition:
        condition.notify(2)
        assert condition._waiting() == 1
        condition.notify_all()
    end(*processes)


def test_a_wait_gives_back_all_of_a_recursive_lock(ctx):
    condition = ctx.Condition()
    with condition, condition:
        process = start(ctx, _notify, condition)
        assert condition.wait(PATIENCE)
        assert repr(condition._lock) == "<RLock(MainProcess, 2)>"
    end(process)
    assert not condition._lock.locked()


def _notify(condition):
    with condition:
        condition.notify()


#
# Signals
#


class Alarm(Exception):
    """What the handler of a signal raises."""


@pytest.fixture
def alarms():
    """Signals all the time; what is set as `alarms.handler` handles them."""

    class Alarms:
        handler = staticmethod(lambda: None)
        count = 0

    def handle(number, frame):
        Alarms.count += 1
        Alarms.handler()

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    yield Alarms
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _taken(lock):
    lock.acquire()
    return lock


WAITS = {
    "lock": lambda: _taken(FORK.Lock()).acquire,
    "semaphore": lambda: FORK.Semaphore(0).acquire,
    "event": lambda: FORK.Event().wait,
    "barrier": lambda: FORK.Barrier(2).wait,
    "condition": lambda: _taken(FORK.Condition()).wait,
    "condition of a lock": lambda: _taken(FORK.Condition(FORK.Lock())).wait,
}


@pytest.mark.parametrize("make", WAITS.values(), ids=WAITS)
def test_a_handler_that_raises_ends_a_wait(make, alarms):
    wait = make()

    def handle():
        if armed:
            raise Alarm

    armed = False
    alarms.handler = handle
    try:
        armed = True
        wait()
    except Alarm:
        armed = False
    assert not armed
    if isinstance(wait.__self__, synchronize.Condition):
        wait.__self__.release()


@pytest.mark.parametrize("make", WAITS.values(), ids=WAITS)
def test_a_wait_goes_on_after_a_signal(make, alarms):
    wait = make()
    lock = wait.__self__

    def handle():
        if alarms.count > 3 and not done:
            done.append(True)
            thread.start()

    def finish():
        if isinstance(lock, synchronize.Barrier | synchronize.Event):
            (lock.wait if isinstance(lock, synchronize.Barrier) else lock.set)()
        elif isinstance(lock, synchronize.Condition):
            _notify(lock)
        else:
            lock.release()

    done = []
    thread = threading.Thread(target=finish)
    alarms.handler = handle
    assert wait() in (True, 0, 1)
    thread.join()
    if isinstance(lock, synchronize.Condition):
        lock.release()


def test_a_signal_that_comes_before_the_sleep_is_not_missed():
    def raise_alarm(number, frame):
        raise Alarm

    event = FORK.Event()
    before = signal.signal(signal.SIGALRM, raise_alarm)
    try:
        for microseconds in range(1, 300, 6):
            with pytest.raises(Alarm):
                signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
                assert event.wait(PATIENCE), "the signal was missed"
    finally:
        signal.signal(signal.SIGALRM, before)


#
# Killed processes
#


@pytest.mark.parametrize("kind", LOCKS)
def test_a_killed_owner_loses_the_lock(ctx, kind):
    lock, taken = getattr(ctx, kind)(), ctx.Event()
    process = start(ctx, _take, lock, taken)
    assert taken.wait(PATIENCE)
    assert not lock.acquire(False)
    os.kill(process.pid, signal.SIGKILL)
    assert lock.acquire(True, PATIENCE)
    recovered = getattr(lock, "_lock", lock)
    assert recovered.recovered
    lock.release()
    with lock:
        assert not recovered.recovered
    process.join()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_who_polls_learns_of_a_killed_owner(ctx, kind):
    lock, taken = getattr(ctx, kind)(), ctx.Event()
    process = start(ctx, _take, lock, taken)
    assert taken.wait(PATIENCE)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: lock.acquire(False))
    assert lock.recovered
    process.join()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_strict_lock_says_that_its_owner_died(ctx, kind):
    lock, taken = getattr(ctx, kind)(strict=True), ctx.Event()
    process = start(ctx, _take, lock, taken)
    assert taken.wait(PATIENCE)
    kill(process)
    for _ in range(2):
        with pytest.raises(synchronize.OwnerDied):
            lock.acquire(True, PATIENCE)
        assert not lock.locked()
    lock.strict = False
    with lock:
        assert lock.recovered
    lock.strict = True
    with lock:
        assert not lock.recovered


def test_an_owner_that_exits_loses_the_lock(ctx):
    lock = ctx.Lock()
    end(start(ctx, _acquire, lock))
    assert lock.acquire(True, PATIENCE)


def _acquire(lock):
    lock.acquire()


def test_a_killed_holder_of_a_permit_takes_it_along(ctx):
    semaphore, taken = ctx.Semaphore(2), ctx.Event()
    process = start(ctx, _take, semaphore, taken)
    assert taken.wait(PATIENCE)
    kill(process)
    assert semaphore.get_value() == 1
    assert semaphore.acquire(True, PATIENCE)
    assert not semaphore.acquire(True, 0.05)
    semaphore.release()
    assert semaphore.acquire(True, PATIENCE)


def test_a_killed_waiter_for_a_permit_takes_none_along(ctx):
    semaphore, ready = ctx.Semaphore(0), ctx.Semaphore(0)
    first, second = (start(ctx, _await_permit, semaphore, ready) for _ in range(2))
    for _ in range(2):
        assert ready.acquire(True, PATIENCE)
    kill(first)
    semaphore.release()
    end(second)


def _await_permit(semaphore, ready):
    ready.release()
    assert semaphore.acquire(True, PATIENCE)


def _await_set(event, ready):
    ready.release()
    assert event.wait(PATIENCE)


def test_a_killed_waiter_of_an_event_is_not_missed(ctx):
    event, ready = ctx.Event(), ctx.Semaphore(0)
    first, second = (start(ctx, _await_set, event, ready) for _ in range(2))
    for _ in range(2):
        assert ready.acquire(True, PATIENCE)
    kill(first)
    event.set()
    end(second)
    assert event.is_set()
    event.clear()
    assert not event.wait(0)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_killed_waiter_of_a_condition_is_skipped(ctx, kind):
    condition = ctx.Condition(getattr(ctx, kind)())
    first = start(ctx, _await_turn, condition)
    until(lambda: condition._waiting() == 1)
    second = start(ctx, _await_turn, condition)
    until(lambda: condition._waiting() == 2)
    kill(first)
    with condition:
        condition.notify()
    end(second)
    with condition:
        condition.notify_all()


def test_a_killed_party_breaks_the_barrier(ctx):
    barrier = ctx.Barrier(3)
    first = start(ctx, _meet_and_fail, barrier)
    second = start(ctx, _meet_and_fail, barrier)
    until(lambda: barrier.n_waiting == 2)
    kill(first)
    end(second)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(PATIENCE)
    assert barrier.broken
    # Whoever looks after the dead may break it once more.
    until(lambda: barrier.reset() or not barrier.broken)
    assert barrier.n_waiting == 0


def test_a_party_killed_before_it_came_breaks_the_barrier(ctx):
    barrier, here = ctx.Barrier(2), ctx.Event()
    process = start(ctx, _hold, barrier, here)
    assert here.wait(PATIENCE)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(PATIENCE)
    process.join()


def test_a_child_that_is_no_party_may_be_killed(ctx):
    barrier, here = ctx.Barrier(2), ctx.Event()
    bystander = start(ctx, _hold, None, here)
    assert here.wait(PATIENCE)
    party = start(ctx, _meet_once, barrier)
    until(lambda: barrier.n_waiting == 1)
    kill(bystander)
    assert barrier.wait(PATIENCE) == 1
    end(party)


def _meet_once(barrier):
    barrier.wait(PATIENCE)


def _hold(barrier, here):
    here.set()
    time.sleep(PATIENCE)


def _sleep():
    time.sleep(PATIENCE)


def test_a_party_killed_in_the_action_breaks_the_barrier(ctx):
    barrier = ctx.Barrier(2, _sleep)
    other = start(ctx, _meet_and_fail, barrier)
    until(lambda: barrier.n_waiting == 1)
    last = start(ctx, _meet_and_fail, barrier)
    until(lambda: barrier.n_waiting == 2)
    kill(last)
    end(other)
