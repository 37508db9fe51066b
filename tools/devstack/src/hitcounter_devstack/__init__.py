"""The local stack: real Redis and Elasticsearch servers on this machine, and our own commands over them.

One way of starting the real things, used by `make run` and by the tests, so that what is tested is what is run.
Nothing of it is part of the product: it knows commands, environment names and ports, and imports neither the
services nor the shared library.

    with RedisServer(folder / "redis") as redis, ElasticsearchServer(folder / "elasticsearch") as elasticsearch:
        print(redis.url, elasticsearch.url)

Whatever is started here ends with the process that started it, however that one ends (`guard.py`).
"""

from hitcounter_devstack.browser import require_browser
from hitcounter_devstack.distributions import ELASTICSEARCH_8, ELASTICSEARCH_9, ElasticsearchRelease
from hitcounter_devstack.elasticsearch import ElasticsearchServer
from hitcounter_devstack.errors import DataInUseError, DevstackError, MissingPartError, StartError
from hitcounter_devstack.ports import LOCALHOST, free_port
from hitcounter_devstack.prometheus import PrometheusServer
from hitcounter_devstack.redis import RedisServer
from hitcounter_devstack.redis_binaries import find_redis, find_valkey, redis_servers
from hitcounter_devstack.services import Service

__all__ = [
    "ELASTICSEARCH_8",
    "ELASTICSEARCH_9",
    "LOCALHOST",
    "DataInUseError",
    "DevstackError",
    "ElasticsearchRelease",
    "ElasticsearchServer",
    "MissingPartError",
    "PrometheusServer",
    "RedisServer",
    "Service",
    "StartError",
    "find_redis",
    "find_valkey",
    "free_port",
    "redis_servers",
    "require_browser",
]
