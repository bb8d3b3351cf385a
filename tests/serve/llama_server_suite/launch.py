"""Start this server as llama-server's command line asks; exit 64 where a flag has no counterpart.

The model is the one that $SUITE_MODEL names, whatever was asked for, or $SUITE_FIM_MODEL where
one that fills gaps was, or $SUITE_EMBEDDING_MODEL.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

NOT_APPLICABLE = 64
IGNORED = ("--hf-repo", "--hf-file", "--model-url", "--ubatch-size", "--n-predict")
IGNORED += ("--model", "-fa", "--cache-ram", "--reasoning-format")
READ = ("--pooling", "--ctx-size", "--api-key", "--cors-origins", "--batch-size", "--chat-template")
IGNORED += ("--reasoning",)  # the plugin says it with each request
SWITCHES = ("--offline", "--cont-batching", "--no-slots", "--slots", "--jinja", "--no-jinja")
SWITCHES += ("--metrics", "--kv-unified", "--swa-full", "--verbose", "--no-ui")
SWITCHES += ("--no-cache-idle-slots", "--embedding")
SETTINGS = {
    "--host": "server.host",
    "--port": "server.port",
    "--temp": "sampling.temperature",
    "--seed": "sampling.seed",
    "--alias": "model.alias",
    "--threads": "engine.threads",
    "--n-gpu-layers": "engine.n_gpu_layers",
    "--parallel": "engine.slots",
    "--chat-template-file": "model.template_file",
    "-ctk": "engine.kv_type",
}
LOCAL_PAGES = [
    f"http://{host}{port}" for host in ("localhost", "127.0.0.1", "[::1]") for port in ("", ":*")
]  # what llama-server means by "localhost"


def main(words: list[str]) -> None:
    """Replace this process by the server."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in (*IGNORED, *SETTINGS, *READ):
        parser.add_argument(flag)
    for flag in SWITCHES:
        parser.add_argument(flag, action="store_true")
    args, unknown = parser.parse_known_args(words)
    if unknown:
        print(f"no counterpart of {' '.join(unknown)}", file=sys.stderr)
        sys.exit(NOT_APPLICABLE)
    given = {name: value for name, value in vars(args).items() if value is not None}
    model = os.environ[_kind(given)]
    command = [sys.executable, "-m", "serve", "--no-tune", "--model", model]
    for setting, value in settings(given).items():
        command += ["--set", f"{setting}={value}"]
    environment = dict(os.environ)
    if "api_key" in given:
        environment["EDGESMITH_API_KEY"] = given["api_key"]
    os.chdir(Path(__file__).resolve().parents[3])
    os.execve(command[0], command, environment)


def _kind(given: dict[str, Any]) -> str:
    """Return the variable that names the model; vectors of single tokens are not made here."""
    if given["embedding"]:
        if given.get("pooling") == "none":
            sys.exit(NOT_APPLICABLE)
        return "SUITE_EMBEDDING_MODEL"
    return "SUITE_FIM_MODEL" if "infill" in str(given.get("hf_repo")) else "SUITE_MODEL"


def settings(given: dict[str, Any]) -> dict[str, str]:
    """Return the settings for flags; llama-server shares its context out between its slots."""
    told = {
        "engine.fim_slots": "0",
        "api.slots": str(not given["no_slots"]).lower(),
        "api.metrics": str(given["metrics"]).lower(),
        "api.page": str(not given["no_ui"]).lower(),
    } | {
        setting: given[flag.lstrip("-").replace("-", "_")]
        for flag, setting in SETTINGS.items()
        if flag.lstrip("-").replace("-", "_") in given
    }
    if "ctx_size" in given:
        shares = 1 if given.get("kv_unified") else int(given.get("parallel", "1"))
        told["engine.context_length"] = str(int(given["ctx_size"]) // shares)
    if " " in given.get("chat_template", ""):  # a name means one that is built in: the model's own
        with tempfile.NamedTemporaryFile("w", suffix=".jinja", delete=False) as file:
            file.write(given["chat_template"])
        told["model.template_file"] = file.name
    if "model.template_file" in told:
        told["model.template_file"] = str(Path(told["model.template_file"]).resolve())
    if "cors_origins" in given:
        names = given["cors_origins"].split(",")
        pages = [
            page for name in names for page in (LOCAL_PAGES if name == "localhost" else [name])
        ]
        told["access.cors_origins"] = json.dumps(pages)
    return told


if __name__ == "__main__":
    main(sys.argv[1:])
