"""What terminal programs and agents need to know of a server, file by file.

Keys are never written: where one is needed, the program is told to read $EDGESMITH_API_KEY, or the
user is told what to do. Knows neither how files are written nor how servers are asked.
Source: the programs' own documentation and sources; docs/editors/ says what was tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clients.editors.documents import Change, Edit
from clients.editors.paths import Item
from clients.editors.recipe import KEY_VARIABLE, NAME, NO_KEY, Recipe, Server, agent_notes

if TYPE_CHECKING:
    from clients.editors.places import Places


def aider(server: Server, places: Places) -> Recipe:
    """Return ~/.aider.conf.yml, and the facts that aider lacks of an unknown model."""
    name = f"openai/{server.model}"
    facts = {
        "max_input_tokens": server.context,
        "max_output_tokens": server.answer,
        "max_tokens": server.answer,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "litellm_provider": "openai",
        "mode": "chat",
    }
    edits = [
        Edit(("model",), name),
        Edit(("openai-api-base",), server.api_url),
    ]
    if not server.wants_key:
        edits.append(Edit(("openai-api-key",), NO_KEY))
    metadata = places.home / ".aider.model.metadata.json"
    settings = Change(file=places.home / ".aider.conf.yml", format="yaml", edits=tuple(edits))
    model = Change(file=metadata, format="json", edits=(Edit((name,), facts),))
    notes = (f"start it as OPENAI_API_KEY=${KEY_VARIABLE} aider",) if server.wants_key else ()
    return Recipe(changes=(settings, model), notes=notes)


def codex(server: Server, places: Places) -> Recipe:
    """Return a profile of its own, so that the usual model stays the default."""
    provider = {"name": NAME, "base_url": server.api_url, "wire_api": "responses"}
    if server.wants_key:
        provider["env_key"] = KEY_VARIABLE
    edits = (
        Edit(("model",), server.model),
        Edit(("model_provider",), NAME),
        Edit(("model_context_window",), server.context),
        Edit(("model_providers", NAME), provider),
    )
    file = places.dotted(".codex", variable="CODEX_HOME") / f"{NAME}.config.toml"
    return Recipe(
        changes=(Change(file=file, format="toml", edits=edits),),
        notes=(f"start it with: codex --profile {NAME}", *agent_notes(server, 7_000)),
    )


def claude_code(server: Server, places: Places) -> Recipe:
    """Return a settings file of its own, so that the usual account stays the default."""
    environment = {
        "ANTHROPIC_BASE_URL": server.root_url,
        "ANTHROPIC_MODEL": server.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": server.model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": server.model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": server.model,
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(server.answer),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    edits = [Edit(("env", key), value) for key, value in environment.items()]
    if server.wants_key:
        edits.append(Edit(("apiKeyHelper",), f"printenv {KEY_VARIABLE}"))
    else:
        edits.append(Edit(("env", "ANTHROPIC_AUTH_TOKEN"), NO_KEY))
    file = places.dotted(".claude", variable="CLAUDE_CONFIG_DIR") / f"{NAME}.json"
    return Recipe(
        changes=(Change(file=file, format="json", edits=tuple(edits)),),
        notes=(f"start it with: claude --settings {file}", *agent_notes(server, 19_000)),
    )


def opencode(server: Server, places: Places) -> Recipe:
    """Return a provider beside those there are."""
    with_comments = places.opencode / "opencode.jsonc"
    file = with_comments if with_comments.is_file() else places.opencode / "opencode.json"
    key = f"{{env:{KEY_VARIABLE}}}" if server.wants_key else NO_KEY
    limit = {"context": server.context, "output": server.answer}
    model = {"name": server.model, "tool_call": server.has_tools, "limit": limit}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": NAME,
        "options": {"baseURL": server.api_url, "apiKey": key},
        "models": {server.model: model},
    }
    edits = (
        Edit(("$schema",), "https://opencode.ai/config.json", is_default=True),
        Edit(("provider", NAME), provider),
    )
    return Recipe(
        changes=(Change(file=file, format="json", edits=edits),),
        notes=(
            f"start it with: opencode --model {NAME}/{server.model}",
            *agent_notes(server, 8_000),
        ),
    )


def llm(server: Server, places: Places) -> Recipe:
    """Return an entry of the list of OpenAI-like models."""
    entry: dict[str, Any] = {
        "model_id": NAME,
        "model_name": server.model,
        "api_base": server.api_url,
        "supports_schema": True,
        "supports_tools": server.has_tools,
    }
    notes = [f"use it with: llm -m {NAME} 'question'"]
    if server.wants_key:
        entry["api_key_name"] = NAME
        notes.append(f"give it the key once with: llm keys set {NAME}")
    edits = (Edit((Item("model_id", NAME),), entry),)
    file = places.llm / "extra-openai-models.yaml"
    return Recipe(changes=(Change(file=file, format="yaml", edits=edits),), notes=tuple(notes))
