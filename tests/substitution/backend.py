"""A backend for joblib on any executor: what scikit-learn's `n_jobs=2` then runs on."""

from joblib.parallel import AutoBatchingMixin, ParallelBackendBase


class ExecutorBackend(AutoBatchingMixin, ParallelBackendBase):
    """Hands joblib's batches to an executor."""

    supports_retrieve_callback = True

    def __init__(self, executor=None, **kwargs):
        super().__init__(**kwargs)
        self.executor = executor

    def effective_n_jobs(self, n_jobs):
        return 1 if n_jobs is None else n_jobs

    def configure(self, n_jobs=1, parallel=None, **_):
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def submit(self, func, callback=None):
        future = self.executor.submit(func)
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future):
        return future.result()


class PoolBackend(ExecutorBackend):
    """Hands joblib's batches to a pool."""

    def submit(self, func, callback=None):
        return self.executor.apply_async(func, callback=callback, error_callback=callback)

    def retrieve_result_callback(self, result):
        if isinstance(result, BaseException):
            raise result
        return result
