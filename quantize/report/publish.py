"""Write what others need to use a run's file: an Ollama Modelfile and a model card.

Both are taken from the file itself: its template, its stop tokens, its special tokens.
"""

from collections.abc import Sequence
from pathlib import Path

from quantize.errors import SourceError, TemplateShapeError
from quantize.examples import render
from quantize.llama.gguf_header import read_header
from quantize.llama.session import LlamaSession
from quantize.measure.measurements import Measurement
from quantize.report import model_card, modelfile
from quantize.report.recommend import Recommendation
from quantize.report.turn_shape import find_shape
from quantize.run import Manifest, say, write_atomically
from quantize.verify.cases import Message

_SHOWN: list[Message] = [{"role": "user", "content": "Write a function that adds two numbers."}]


def publish(
    run: Path, written: Manifest, entries: Sequence[Measurement], chosen: Recommendation
) -> None:
    """Write both files for the recommended GGUF; say why where no Modelfile can be exact."""
    if chosen.file is None:
        return
    model = run / chosen.file
    template = read_header(model).text("tokenizer.chat_template")
    with LlamaSession(model, n_ctx=16, n_batch=16) as session:
        names, adds_bos = session.special_names(), session.adds_bos()
        stops = [session.piece(token_id) for token_id in session.stop_ids()]

    def rendered(messages: Sequence[Message], add_generation_prompt: bool) -> str:
        assert template is not None  # not called without one
        return render(template, messages, add_generation_prompt=add_generation_prompt, names=names)

    bos = names.get("bos_token", "") if adds_bos else ""
    try:
        shape = find_shape(rendered, template)
        text = modelfile.modelfile(chosen.file, shape, stops, bos=bos)
    except (TemplateShapeError, SourceError) as error:
        (run / modelfile.FILE).unlink(missing_ok=True)
        note = f"There is no {modelfile.FILE} for Ollama: {error}."
        say(f"note: {note}")
    else:
        write_atomically(run / modelfile.FILE, text.encode())
        note = f"For Ollama: `ollama create NAME -f {modelfile.FILE}`, beside the file."
    card = model_card.model_card(
        written,
        entries=entries,
        recommendation=chosen,
        prompt=rendered(_SHOWN, add_generation_prompt=True) if template else None,
        stops=stops,
        modelfile=note,
    )
    write_atomically(run / model_card.FILE, card.encode())
