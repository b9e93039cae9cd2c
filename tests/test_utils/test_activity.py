"""Who does something and who does nothing."""

import subprocess
import sys
import threading
import time

import pytest

from mmrecast.utils.activity import Activity, main_frame, place

BUSY = 'import time\nend = time.time() + 30\nwhile time.time() < end: pass'


def quiet(activity: Activity) -> bool:
    """Tell whether nothing was seen in one of some periods: other threads of the tests may do something."""
    activity.seen()
    return any(not (time.sleep(0.5), activity.seen())[1] for _ in range(6))


def test_sleep_is_nothing_and_computing_is_something():
    activity = Activity()
    assert quiet(activity)
    ended = threading.Event()

    def compute() -> None:
        while not ended.is_set():
            sum(range(10**5))

    other = threading.Thread(target=compute)  # the thread that asks does not count
    other.start()
    try:
        time.sleep(0.5)
        assert activity.seen()
    finally:
        ended.set()
        other.join()


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='children are seen in /proc')
@pytest.mark.parametrize(('code', 'busy'), [(BUSY, True), ('import time\ntime.sleep(30)', False)])
def test_what_a_child_does_counts(code, busy):
    child = subprocess.Popen([sys.executable, '-S', '-c', code])
    try:
        time.sleep(1)
        activity = Activity()
        assert quiet(activity) is not busy
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='threads are seen in /proc')
def test_the_threads_of_connections_do_not_count(tmp_path):
    """Gloo's wake a hundred times a second, and on a busy machine wait for a processor each time."""
    code = (
        'import os, sys, time, torch.distributed as d\n'
        'from mmrecast.utils.activity import Activity\n'
        f'd.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=int(sys.argv[1]), world_size=2)\n'
        'd.barrier()\n'
        'activity = Activity()\n'
        'print(sum(time.sleep(0.5) or activity.seen() for _ in range(12)))\n'
        'd.barrier()\n'
    )
    words = [sys.executable, '-W', 'ignore', '-c', code]
    both = [subprocess.Popen([*words, str(rank)], stdout=subprocess.PIPE, text=True) for rank in (0, 1)]
    for process in both:
        assert int(process.communicate(timeout=300)[0]) <= 1


def test_a_place_is_the_innermost_line_and_our_own():
    said = []
    waiter = threading.Thread(target=lambda: (time.sleep(0.3), said.append(place(main_frame()))))
    waiter.start()
    waiter.join()
    assert 'threading.py' in said[0] and 'called by test_a_place_is_the_innermost_line_and_our_own' in said[0]
    assert place(None) == 'nowhere'
