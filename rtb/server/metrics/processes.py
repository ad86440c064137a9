"""
`process_*` of every process of the listener, and the release, as Prometheus expects them.

By convention (prometheus.io/docs/instrumenting/writing_clientlibs, "Process metrics") they describe
a single process. The listener has several, and no sum would be true: shared memory would count
twice, empty descriptor tables hide a full table, and a replaced worker make a counter go back. So
each has the label `process`, and the usual expressions, such as `process_open_fds /
process_max_fds`, hold for each.
"""

import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client import ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric

from rtb.lookup import link


def processes(pids: Mapping[str, int]) -> Iterator[Metric]:
    """
    Yield the kernel's metrics of processes; none of a process that is gone.

    Args:
        pids: Process ids by name.
    """
    families: dict[str, Metric] = {}
    for name, pid in pids.items():
        for family in _of(pid):
            ours = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                ours.add_sample(sample.name, {"process": name}, sample.value)
    yield from families.values()


def build_info() -> Metric:
    """Return the release as a metric."""
    family = GaugeMetricFamily(
        "rtb_build_info", "1; the release, and what it runs on.",
        labels=("version", "python", "compiled"),
    )  # fmt: skip
    is_compiled = str(not link.__file__.endswith(".py")).lower()
    family.add_metric((version("rtb-segments"), platform.python_version(), is_compiled), 1)
    return family


def _of(pid: int) -> Iterable[Metric]:
    if not pid:
        return ()
    try:
        return ProcessCollector(pid=lambda: pid, registry=None).collect()
    except (ValueError, IndexError, NameError):
        # A sandbox's /proc may lack a line; the other metrics remain.
        return ()
