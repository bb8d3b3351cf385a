"""What is said of a complete run: its files measured, one recommended, a report written.

All of it stands beside the run; nothing here changes a file that the manifest lists.
"""

from pathlib import Path

from quantize.config import MeasureConfig, QuantizeConfig, RecommendConfig
from quantize.errors import RunError
from quantize.llama.gguf_header import read_header
from quantize.llama.metadata import parent_sha256
from quantize.measure.measurements import Measurement, Subject, machine_record, read
from quantize.measure.measuring import measure
from quantize.plan import STAGE
from quantize.progress import Steps
from quantize.report import recommend, tables
from quantize.report.publish import publish
from quantize.report.room import room
from quantize.run import Manifest, read_manifest, say

LOG = "log.jsonl"


def measure_run(run: Path, config: QuantizeConfig, steps: Steps | None = None) -> list[Measurement]:
    """Measure what is not known on this machine, recommend and write the report."""
    written = read_manifest(run)
    subjects = [Subject(path=path, sha256=digest) for path, digest in files(run, written)]
    done = measure(
        run,
        subjects,
        _examples(run, config.measure),
        config.measure,
        steps or Steps(run / LOG),
        context=room(config.recommend, read_header(subjects[0].path)).context,
    )
    for line in tables.table(done):
        say(line)
    recommend_run(run, config.recommend)
    return done


def _examples(run: Path, config: MeasureConfig) -> Path | None:
    """Return the examples to judge on: the run's own, else the named ones."""
    heldout = run / "heldout.jsonl"
    if heldout.is_file() or not config.examples:
        return heldout if heldout.is_file() else None
    path = Path(config.examples).expanduser()
    if not path.is_file():
        raise RunError(f"measure.examples: no such file {path}")
    return path


def recommend_run(run: Path, bounds: RecommendConfig) -> recommend.Recommendation:
    """Choose a file, keep the choice and the report beside the run."""
    written = read_manifest(run)
    machine_id, known = machine_record()["id"], read(run)
    held = files(run, written)
    asked = room(bounds, read_header(held[0][0]))
    options = recommend.candidates(held, known, machine_id, asked.context)
    chosen = recommend.recommend(options, asked, bounds)
    say(f"recommended: {chosen.file or 'none'}: {chosen.reason}")
    if chosen.file is None and (run / recommend.FILE).is_file():
        say("the earlier recommendation stays, and with it what the server takes")
        return chosen
    if chosen.file is not None:
        recommend.write(run, chosen)
    tables.write(
        run,
        known,
        machine_id,
        recommendation=chosen,
        quantized_from=written.base_model.quantized_from,
    )
    here = [entry for entry in known if entry.machine.get("id") == machine_id]
    publish(run, written, tables.whole(here), chosen)
    return chosen


def files(run: Path, written: Manifest) -> list[tuple[Path, str]]:
    """Return the GGUFs and their hashes: the one made from none of the others, then by size."""
    require_stage(run, written)
    found = {
        run / record.path: record.sha256 for record in written.outputs if record.role == "gguf"
    }
    missing = [path.name for path in found if not path.is_file()]
    if missing or not found:
        raise RunError(f"{run} lacks {', '.join(missing) or 'any GGUF'}; quantize again")
    made_here = set(found.values())
    order = {
        path: (parent_sha256(path) in made_here, -path.stat().st_size, path.name) for path in found
    }
    return sorted(found.items(), key=lambda item: order[item[0]])


def require_stage(run: Path, written: Manifest) -> None:
    """Refuse a run of another stage."""
    if written.stage != STAGE:
        raise RunError(f"{run} is a {written.stage} run, not a quantize run")
