"""mpire and pebble on our contexts; data frames, images and futures of several makers through our pools."""

import concurrent.futures
import os

import pytest

import procession
from procession.futures import ProcessPoolExecutor

pytestmark = pytest.mark.leaves("loky: a resource tracker of its own, for good")


def square(x):
    return x * x


def fail(x):
    raise KeyError(x)


def die(x):
    os._exit(3)


@pytest.fixture(scope="module")
def mpire():
    """The library, which asks for its contexts while it is imported."""
    import multiprocessing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", procession.get_context)
        return pytest.importorskip("mpire")


def test_mpire(mpire, method):
    with mpire.WorkerPool(2, start_method=method) as pool:
        assert pool.map(square, range(100)) == [x * x for x in range(100)]
        assert sorted(pool.imap_unordered(square, range(100), chunk_size=1)) == [x * x for x in range(100)]
        assert pool.apply(square, (3,)) == 9
        with pytest.raises(KeyError):
            pool.map(fail, range(3))


def test_mpire_whose_worker_dies(mpire, method):
    with mpire.WorkerPool(2, start_method=method) as pool, pytest.raises(RuntimeError):
        pool.map(die, range(3))


def test_pebble(ctx):
    pebble = pytest.importorskip("pebble")
    with pebble.ProcessPool(2, context=ctx) as pool:
        assert list(pool.map(square, range(50)).result()) == [x * x for x in range(50)]
        with pytest.raises(KeyError):
            pool.schedule(fail, args=(1,)).result()
        with pytest.raises(pebble.ProcessExpired):
            pool.schedule(die, args=(1,)).result()
        assert pool.schedule(square, args=(7,)).result() == 49


def with_column(frame):
    frame["double"] = frame["number"] * 2
    return frame


def test_pandas(ctx):
    pandas = pytest.importorskip("pandas")
    frames = [pandas.DataFrame({"number": range(x, x + 20_000), "text": "row"}) for x in range(4)]
    with ctx.Pool(2) as pool:
        for before, after in zip(frames, pool.imap(with_column, frames), strict=True):
            pandas.testing.assert_frame_equal(before.assign(double=before["number"] * 2), after)
    pool.join()


def sums(frame):
    return frame.sum()


def test_polars(method):
    """Not forked: its threads do not survive that, as its documentation says."""
    if method == "fork":
        pytest.skip("polars cannot be forked")
    polars = pytest.importorskip("polars")
    with ProcessPoolExecutor(2, mp_context=procession.get_context(method)) as executor:
        frames = [polars.DataFrame({"number": range(x, x + 20_000)}) for x in range(4)]
        for before, after in zip(frames, executor.map(sums, frames), strict=True):
            assert after.equals(before.sum())


def thumbnail(image):
    image.thumbnail((50, 50))
    return image


def test_pillow(ctx):
    images = pytest.importorskip("PIL.Image")
    with ctx.Pool(2) as pool:
        small = pool.map(thumbnail, [images.new("RGB", (400, 300), (x, 0, 0)) for x in range(8)])
    assert [(image.size, image.getpixel((5, 5))) for image in small] == [((50, 38), (x, 0, 0)) for x in range(8)]
    pool.join()


def test_futures_of_several_makers(ctx):
    loky = pytest.importorskip("loky")
    with (
        ProcessPoolExecutor(1, mp_context=ctx) as ours,
        concurrent.futures.ProcessPoolExecutor(1) as theirs,
        loky.ProcessPoolExecutor(1) as others,
    ):
        futures = [executor.submit(abs, -x) for x in range(10) for executor in (ours, theirs, others)]
        assert sum(future.result() for future in concurrent.futures.as_completed(futures)) == 3 * 45
        assert not concurrent.futures.wait(futures).not_done
