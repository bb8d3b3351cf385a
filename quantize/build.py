"""Make the files of a run: merge, convert, quantize; each step resumable, none measuring.

Every file appears in two moves: written under a `.partial` name and checked, then renamed and
listed in the ledger. A process killed anywhere leaves nothing that a later one takes for whole.
"""

import shutil
from pathlib import Path

import msgspec

from quantize.budget import artifact as budget_artifact
from quantize.budget.search import Found
from quantize.config import QuantizeConfig
from quantize.convert import hf_folder
from quantize.convert.adapter import Adapter, read_adapter
from quantize.convert.converter import convert_to_f16
from quantize.convert.fim_keys import missing_fim_keys
from quantize.convert.merge import merge
from quantize.digest import sha256_pairs
from quantize.errors import SourceError
from quantize.imatrix.artifact import FILE as IMATRIX
from quantize.imatrix.artifact import UsedImatrix, examples, provide
from quantize.llama.finite import require_finite
from quantize.llama.ggml_types import by_name
from quantize.llama.gguf_header import read_header
from quantize.llama.metadata import Provenance, file_keys, write_with_keys
from quantize.llama.quant_types import QuantType, name_of, resolve
from quantize.llama.quantizer import TypeChoice, planned, quantize_file
from quantize.progress import Steps
from quantize.resume import Ledger
from quantize.run import OutputRecord, say
from quantize.shapes import foreseen
from quantize.source import Source, folder_files
from quantize.space import require_space


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """Name what was made, in order; the first GGUF is the reference."""

    ggufs: tuple[Path, ...]
    merged: Path | None
    adapter: Adapter | None


class Builder:
    """Make one run's files in its directory."""

    def __init__(
        self, run: Path, source: Source, config: QuantizeConfig, provenance: Provenance
    ) -> None:
        self.run = run
        self.source = source
        self.config = config
        self.provenance = provenance
        self.ledger: Ledger
        self.imatrix: UsedImatrix | None = None
        self.name = config.name or source.name

    def build(self, types: list[QuantType], ledger: Ledger, steps: Steps) -> Built:
        """Make what is missing and return everything."""
        self.ledger = ledger
        self._require_space(types)
        adapter, merged = None, None
        if self.source.kind == "finetune_run":
            adapter = read_adapter(self.source.path / "adapter")
            merged = self._merged(adapter, steps)
        reference = self._reference(merged, steps)
        held = read_header(reference).text("edgesmith.quant.type")
        others = [entry for entry in types if entry.name != held]
        if foreseen(self.source) is None:  # else it was said before
            self._announce(reference, others)
        budget = self.config.budget
        if budget.is_asked or any(entry.uses_imatrix for entry in others):
            self.imatrix = provide(
                self.run,
                reference,
                self.source,
                self.config.imatrix,
                ledger=ledger,
                steps=steps,
            )
        others, found = self._searched(reference, others, steps)
        quants = [
            self._quantized(reference, entry.name, TypeChoice(quant_type=entry), steps)
            for entry in others
        ]
        if found is not None:
            name, choice = budget_artifact.label(budget), budget_artifact.choice(found)
            quants.append(self._quantized(reference, name, choice, steps))
            budget_artifact.require_within(quants[-1], found)
        self._template(reference)
        return Built(ggufs=(reference, *quants), merged=merged, adapter=adapter)

    def outputs(self) -> tuple[OutputRecord, ...]:
        """Return the manifest's list of files, hashed."""
        roles = [(path, "merged") for path in sorted(self.run.glob("merged/*"))]
        roles += [(path, "gguf") for path in sorted(self.run.glob("*.gguf"))]
        roles.append((self.run / IMATRIX, "imatrix"))
        roles += [(path, "budget") for path in sorted(self.run.glob("budget/fit_*.json"))]
        roles.append((self.run / hf_folder.TEMPLATE, "chat_template"))
        roles.append((self.run / "heldout.jsonl", "heldout_examples"))
        records = []
        for path, role in roles:
            if path.is_file():
                known = self.ledger.valid(path) or self.ledger.record(path)
                records.append(
                    OutputRecord(
                        role=role,
                        path=path.relative_to(self.run).as_posix(),
                        sha256=known.sha256,
                        size_bytes=known.size_bytes,
                    )
                )
        return tuple(records)

    def _merged(self, adapter: Adapter, steps: Steps) -> Path:
        folder = self.run / "merged"
        if self.ledger.valid_folder(folder):
            return folder
        partial = self.run / "merged.partial"
        for leftover in (folder, partial):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir()
        with steps.step("merge the adapter into the base") as draw:
            counts = merge(
                self.source.weights,
                adapter,
                partial,
                dtype=self.config.merge.dtype,
                on_tensor=draw,
            )
            template = self.source.path / hf_folder.TEMPLATE
            hf_folder.assemble(
                self.source.weights,
                self.source.path / "tokenizer",
                template if template.is_file() else None,
                partial,
                dtype=counts.dtype,
            )
            partial.rename(folder)
            for path in sorted(folder.iterdir()):
                self.ledger.record(path)
        return folder

    def _reference(self, merged: Path | None, steps: Steps) -> Path:
        """Return the file the others are made from and compared with."""
        if self.source.kind == "gguf":
            return self._adopted(steps)
        folder = merged or self.source.weights
        target = self.run / f"{self.name}-f16.gguf"
        if self.ledger.valid(target):
            return target
        raw = self.run / f"{target.name}.raw.partial"
        with steps.step(f"convert to {target.name}"):
            convert_to_f16(folder, raw, name=self.name, log=self.run / "convert.log")
            require_finite(read_header(raw))
            self._finish(
                raw, target, "f16", self._weights_sha256(folder), more=missing_fim_keys(raw)
            )
        return target

    def _adopted(self, steps: Steps) -> Path:
        """Copy a GGUF source under its own type's name, with our keys."""
        header = read_header(self.source.path)
        held = name_of(int(header.metadata.get("general.file_type", -1)))
        if held is None:
            raise SourceError(f"{self.source.path} does not say its type (general.file_type)")
        target = self.run / f"{self.name}-{held}.gguf"
        if not self.ledger.valid(target):
            with steps.step(f"copy the source as {target.name}"):
                require_finite(header)
                self._finish(self.source.path, target, held, self.source.sha256)
        return target

    @staticmethod
    def _announce(reference: Path, types: list[QuantType]) -> None:
        """Say beforehand which types this model's shapes do not allow everywhere."""
        for entry in types:
            if line := planned(reference, TypeChoice(quant_type=entry)).explain(entry.name):
                say(line)

    def _searched(
        self, reference: Path, types: list[QuantType], steps: Steps
    ) -> tuple[list[QuantType], Found | None]:
        """Search the budget, if there is one, and add the stock types to compare with."""
        if not self.config.budget.is_asked:
            return types, None
        found = budget_artifact.provide(
            self.run,
            reference,
            self.config,
            self.imatrix.means if self.imatrix else None,
            examples=examples(self.source, self.config.imatrix),
            ledger=self.ledger,
            steps=steps,
        )
        best = [stock.type_name for stock in found.stock[: self.config.budget.compare]]
        more = resolve(best, has_imatrix=self.imatrix is not None) if best else []
        return [*types, *(entry for entry in more if entry not in types)], found

    def _quantized(self, reference: Path, name: str, choice: TypeChoice, steps: Steps) -> Path:
        target = self.run / f"{self.name}-{name}.gguf"
        if self.ledger.valid(target):
            return target
        partial = self.run / f"{target.name}.partial"
        parent = self.ledger.valid(reference) or self.ledger.record(reference)
        used = self.imatrix if choice.quant_type.uses_imatrix else None
        with steps.step(f"quantize {target.name}") as draw:
            quantize_file(
                reference,
                partial,
                choice,
                imatrix=used.means if used else None,
                keys=file_keys(name, parent.sha256, used.sha256 if used else None),
                allow_requantize=self.source.kind == "gguf",
                on_tensor=draw,
            )
            read_header(partial)
            self.ledger.admit(partial, target)
        return target

    def _finish(
        self,
        raw: Path,
        target: Path,
        quant_type: str,
        parent_sha256: str,
        *,
        more: dict[str, int] | None = None,
    ) -> None:
        """Give the file that others are made from our keys, and let it appear."""
        partial = self.run / f"{target.name}.partial"
        keys = self.provenance.keys(quant_type, parent_sha256) | (more or {})
        write_with_keys(raw, partial, keys)
        self.ledger.admit(partial, target)
        if raw != self.source.path:
            raw.unlink()

    def _weights_sha256(self, folder: Path) -> str:
        if folder == self.source.weights:
            return self.source.sha256
        records = ((name, self.ledger.valid(path)) for name, path in folder_files(folder))
        return sha256_pairs((name, record.sha256) for name, record in records if record)

    def _template(self, reference: Path) -> None:
        template = read_header(reference).text("tokenizer.chat_template")
        if template is not None:
            (self.run / hf_folder.TEMPLATE).write_text(template, encoding="utf-8")
        if self.source.heldout is not None:
            shutil.copyfile(self.source.heldout, self.run / "heldout.jsonl")

    def _require_space(self, types: list[QuantType]) -> None:
        """Refuse what the disk cannot hold, counting what is there already."""
        weights = self._weights_bytes()
        scale = weights if self.source.kind == "gguf" else weights // 2
        total = weights * (3 if self.source.kind == "finetune_run" else 2)
        total += sum(int(scale / 8 * estimated_bits(entry.name)) for entry in types)
        if (budget := self.config.budget).is_asked:
            total += (1 + budget.compare) * (budget_artifact.size_of(budget) or weights)
        present = sum(path.stat().st_size for path in self.run.rglob("*") if path.is_file())
        require_space(self.run, max(0, total - present), f"quantizing to {len(types)} types")

    def _weights_bytes(self) -> int:
        place = self.source.weights
        if place.is_file():
            return place.stat().st_size
        return sum(path.stat().st_size for path in place.glob("*.safetensors"))


def estimated_bits(type_name: str) -> float:
    """Return about how many bits a weight takes in a type, for the disk check only."""
    if type_name in ("f32", "f16", "bf16"):
        return 32.0 if type_name == "f32" else 16.0
    stored = by_name(type_name) or by_name(type_name.rpartition("_")[0])
    return stored.bits * 1.15 if stored else 16.0  # embeddings and fallbacks take wider types
