"""Substitution in the wild: scikit-learn and Django, the real ones, handed ours."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from substitution.backend import ExecutorBackend, PoolBackend

from procession.futures import ProcessPoolExecutor, WorkerDied

TESTS = Path(__file__).parent
PATIENCE = 100

# Spawned workers import scikit-learn, which takes a second of CPU each.
pytestmark = [pytest.mark.leaves("joblib: a resource tracker of its own, for good"), pytest.mark.timeout(300)]


class Deadly(ClassifierMixin, BaseEstimator):
    """An estimator that no process survives."""

    def fit(self, x, y):
        os._exit(3)


@pytest.fixture(scope="module")
def samples():
    # Large enough for joblib to map it into memory, and for us to send it beside the pickle.
    return make_classification(12_000, 12, random_state=7)


def search():
    return GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=3, n_jobs=2, error_score="raise")


def expected(samples):
    with joblib.parallel_config(backend="sequential"):
        return search().fit(*samples).cv_results_["mean_test_score"]


def test_a_grid_search_with_our_context(ctx, samples, monkeypatch):
    """joblib's own backend `multiprocessing`, on our processes, pipes and locks."""
    monkeypatch.setattr(joblib.parallel, "DEFAULT_MP_CONTEXT", ctx)
    with joblib.parallel_config(backend="multiprocessing", max_nbytes=100_000):
        found = search().fit(*samples)
    assert np.array_equal(found.cv_results_["mean_test_score"], expected(samples))


@pytest.mark.parametrize(("method", "kind"), [("fork", "pool"), ("spawn", "pool"), ("forkserver", "executor")])
def test_a_grid_search_on_our_workers(ctx, samples, kind):
    open_workers = {"pool": lambda: ctx.Pool(2), "executor": lambda: ProcessPoolExecutor(2, mp_context=ctx)}[kind]
    backend = {"pool": PoolBackend, "executor": ExecutorBackend}[kind]
    with open_workers() as workers, joblib.parallel_config(backend=backend(executor=workers)):
        assert np.array_equal(search().fit(*samples).cv_results_["mean_test_score"], expected(samples))
        forest = RandomForestClassifier(10, random_state=3, n_jobs=2).fit(*samples)
        assert forest.score(*samples) > 0.9
        with pytest.raises(WorkerDied):
            cross_val_score(Deadly(), *samples, cv=2, n_jobs=2, scoring="accuracy")
        # The next ones find a worker in the place of the one that died.
        assert cross_val_score(LogisticRegression(), *samples, cv=2, n_jobs=2).min() > 0.7
    if kind == "pool":
        workers.join()


# Django.

SITE = {
    "manage.py": """
        import os, sys
        sys.path.insert(0, os.environ["TESTS"])
        from substitution import alias
        alias.install()
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

        if __name__ == "__main__":
            import multiprocessing
            assert multiprocessing.Pool.__module__ == "procession.context", multiprocessing
            multiprocessing.set_start_method(os.environ["METHOD"])
            from django.core.management import execute_from_command_line
            execute_from_command_line(sys.argv)
    """,
    "settings.py": """
        SECRET_KEY = "for tests"
        INSTALLED_APPS = ["shelf"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file.sqlite3"}}
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        USE_TZ = True
        ROOT_URLCONF = "urls"
        ALLOWED_HOSTS = ["*"]
        DEBUG = True
    """,
    "urls.py": """
        import os
        from django.http import HttpResponse
        from django.urls import path
        urlpatterns = [path("", lambda request: HttpResponse(f"one {os.getpid()}"))]
    """,
    "shelf/__init__.py": "",
    "shelf/models.py": """
        from django.db import models

        class Book(models.Model):
            title = models.CharField(max_length=50)
    """,
    "shelf/tests.py": """
        from django.test import TestCase
        from shelf.models import Book

        class Base:
            def test_create(self):
                for number in range(20):
                    Book.objects.create(title=f"{type(self).__name__} {number}")
                self.assertEqual(Book.objects.count(), 20)

            def test_answer(self):
                self.assertTrue(self.client.get("/").content.startswith(b"one"))

        class First(Base, TestCase):
            pass

        class Second(Base, TestCase):
            pass

        class Third(Base, TestCase):
            pass
    """,
}


@pytest.fixture
def site(tmp_path):
    for name, text in SITE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


def manage(site, method, *arguments):
    environment = {**os.environ, "TESTS": str(TESTS), "METHOD": method}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, timeout=PATIENCE)


# It clones its database for forked and spawned workers only.
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_djangos_parallel_tests(site, method):
    """Its runner makes a pool, with an initializer that counts the workers in a shared value."""
    done = manage(site, method, "test", "--parallel", "2")
    assert "Ran 6 tests" in done.stderr, done.stderr
    assert "OK" in done.stderr, done.stderr
    assert done.returncode == 0
