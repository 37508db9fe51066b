"""The command: reads arguments and environment, prints a table, and exits with a status."""

import sys
from collections.abc import Sequence

import orjson
import uvloop
from pydantic import ValidationError

from hitcounter_benchmark.arguments import Arguments, parse_arguments
from hitcounter_benchmark.benchmark import BenchmarkError, run_benchmark
from hitcounter_benchmark.progress import say
from hitcounter_benchmark.report import build_record, render_table
from hitcounter_benchmark.settings import BenchmarkSettings, explain
from hitcounter_benchmark.suite import run_suite


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 right, 1 wrong or not shown, 2 used wrongly, 130 interrupted."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        if arguments[:1] == ["suite"]:
            return run_suite(arguments[1:])
        return _run(parse_arguments(arguments, BenchmarkSettings()))
    except ValidationError as error:
        say(explain(error))
        return 2
    except BenchmarkError as error:
        say(f"hitcounter-benchmark: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def _run(arguments: Arguments) -> int:
    result = uvloop.run(run_benchmark(arguments.plan))
    print(render_table(result))
    if arguments.json_path is not None:
        arguments.json_path.write_bytes(orjson.dumps(build_record(result), option=orjson.OPT_INDENT_2))
    return 0 if result.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
