"""What each editor needs to know of a server, file by file; all recipes by name.

Keys are never written: where one is needed, the program is told to read $EDGESMITH_API_KEY, or the
user is told what to do. Knows neither how files are written nor how servers are asked.
Source: the programs' own documentation and sources; docs/editors/ says what was tried.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.editors import agents
from clients.editors.documents import Change, Edit
from clients.editors.paths import Item
from clients.editors.recipe import KEY_VARIABLE, NAME, NO_KEY, Recipe, Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from clients.editors.places import Places


def continue_(server: Server, places: Places) -> Recipe:
    """Return a model for chat and edits, and one for the gap at the cursor."""
    file = places.dotted(".continue", variable="CONTINUE_GLOBAL_DIR") / "config.yaml"
    key = f"${{{{ secrets.{KEY_VARIABLE} }}}}" if server.wants_key else NO_KEY
    model: dict[str, Any] = {
        "provider": "openai",
        "model": server.model,
        "apiBase": server.api_url,
        "apiKey": key,
        "roles": ["chat", "edit", "apply"],
        "capabilities": ["tool_use"] if server.has_tools else [],
        "defaultCompletionOptions": {"contextLength": server.context, "maxTokens": server.answer},
    }
    edits = [
        Edit(("name",), "Local models", is_default=True),
        Edit(("version",), "1.0.0", is_default=True),
        Edit(("schema",), "v1", is_default=True),
        Edit(("models", Item("name", NAME)), {"name": NAME, **model}),
    ]
    if server.has_fim:
        # This provider alone leaves the layout of the gap to the server (/v1/fim/completions).
        gaps = {**deepcopy(model), "provider": "mistral", "roles": ["autocomplete"]}  # no alias
        gaps.pop("capabilities")
        gaps["autocompleteOptions"] = {"maxPromptTokens": min(1024, server.context // 2)}
        name = f"{NAME} autocomplete"
        edits.append(Edit(("models", Item("name", name)), {"name": name, **gaps}))
    notes = ["put the key into ~/.continue/.env as EDGESMITH_API_KEY=..."] * server.wants_key
    if not server.has_tools:
        notes.append(
            "agent mode and `cn` send tools, which this model's chat template does not know"
        )
    return Recipe(
        changes=(Change(file=file, format="yaml", edits=tuple(edits)),),
        notes=tuple(notes),
    )


def llama_vscode(server: Server, places: Places) -> Recipe:
    """Return where the extension asks."""
    settings = {
        "endpoint": server.root_url,
        "endpoint_chat": server.root_url,
        "endpoint_tools": server.root_url,
        "ai_model": server.model,
    }
    edits = tuple(Edit((f"llama-vscode.{key}",), value) for key, value in settings.items())
    notes = ["install the extension ggml-org.llama-vscode"]
    if server.wants_key:
        notes.append("set llama-vscode.api_key, api_key_chat and api_key_tools in the settings")
    return Recipe(
        changes=(Change(file=places.vscode / "settings.json", format="json", edits=edits),),
        notes=tuple(notes),
    )


def llama_vim(server: Server, places: Places) -> Recipe:
    """Return a file that is read before the plugin; the user's own settings win."""
    key = f"${KEY_VARIABLE}" if server.wants_key else "''"
    text = (
        '" Written by edgesmith: where llama.vim asks.\n'
        "let g:llama_config = extend(get(g:, 'llama_config', {}), {\n"
        f"    \\ 'endpoint_fim': '{server.root_url}/infill',\n"
        f"    \\ 'endpoint_inst': '{server.api_url}/chat/completions',\n"
        f"    \\ 'model_fim': '{server.model}',\n"
        f"    \\ 'model_inst': '{server.model}',\n"
        f"    \\ 'api_key': {key},\n"
        "    \\ }, 'keep')\n"
    )
    folders = [places.vim, *([places.neovim] if places.neovim.is_dir() else [])]
    files = [each / "plugin" / "edgesmith-llama.vim" for each in folders]
    return Recipe(
        changes=tuple(Change(file=file, format="text", text=text) for file in files),
        notes=("install ggml-org/llama.vim; what g:llama_config holds already is kept",),
    )


def _plugin(extension: str, folder: Path, server: Server) -> Recipe:
    own = Path(__file__).parent / f"edgesmith.{extension}"
    text = (
        '" Written by edgesmith: where the plugin asks.\n'
        "let g:edgesmith = extend(get(g:, 'edgesmith', {}), {\n"
        f"    \\ 'url': '{server.root_url}', 'model': '{server.model}'}}, 'keep')\n"
    )
    settings = Change(file=folder / "plugin" / "edgesmith-settings.vim", format="text", text=text)
    plugin = Change(
        file=folder / "plugin" / own.name, format="text", text=own.read_text(encoding="utf-8")
    )
    notes = (f"the key is read from ${KEY_VARIABLE}",) if server.wants_key else ()
    return Recipe(changes=(settings, plugin), notes=notes)


def vim(server: Server, places: Places) -> Recipe:
    """Return our own plugin for Vim."""
    return _plugin("vim", places.vim, server)


def neovim(server: Server, places: Places) -> Recipe:
    """Return our own plugin for Neovim."""
    return _plugin("lua", places.neovim, server)


def zed(server: Server, places: Places) -> Recipe:
    """Return a provider for the agent, and edit predictions where the model knows gaps."""
    model = {
        "name": server.model,
        "display_name": server.model,
        "max_tokens": server.context,
        "max_output_tokens": server.answer,
        "capabilities": {
            "tools": server.has_tools,
            "images": False,
            "parallel_tool_calls": False,
            "prompt_cache_key": False,
        },
    }
    provider = {"api_url": server.api_url, "available_models": [model]}
    edits = [Edit(("language_models", "openai_compatible", NAME), provider)]
    if server.has_fim:
        gaps = {
            "api_url": f"{server.api_url}/completions",
            "model": server.model,
            "prompt_format": "qwen" if "qwen" in server.model.lower() else "infer",
            "max_output_tokens": 64,
        }
        edits += [
            Edit(("edit_predictions", "provider"), "open_ai_compatible_api", is_default=True),
            Edit(("edit_predictions", "open_ai_compatible_api"), gaps),
        ]
    key = f"export {KEY_VARIABLE}={'...' if server.wants_key else NO_KEY}"
    notes = [f"start Zed with `{key}` set, then choose {server.model} in the agent panel"]
    if server.wants_key and server.has_fim:
        notes.append("and ZED_OPEN_AI_COMPATIBLE_EDIT_PREDICTION_API_KEY for predictions")
    change = Change(file=places.zed / "settings.json", format="json", edits=tuple(edits))
    return Recipe(changes=(change,), notes=tuple(notes))


def cline(server: Server, places: Places) -> Recipe:  # noqa: ARG001  # it has no file to write
    """Return what to enter by hand: Cline has no file that others may write."""
    key = f"${KEY_VARIABLE}" if server.wants_key else NO_KEY
    return Recipe(
        notes=(
            "Cline keeps its settings in the editor's own store, which only Cline writes.",
            "In its settings choose the provider OpenAI Compatible and enter",
            f"  Base URL        {server.api_url}",
            f"  API Key         {key}",
            f"  Model ID        {server.model}",
            f"  Context Window  {server.context}    Max Output Tokens  {server.answer}",
        )
    )


def copilot(server: Server, places: Places) -> Recipe:
    """Return a custom endpoint of Copilot Chat."""
    model = {
        "id": server.model,
        "name": server.model,
        "url": f"{server.api_url}/chat/completions",
        "toolCalling": server.has_tools,
        "vision": False,
        "maxInputTokens": server.context - server.answer,
        "maxOutputTokens": server.answer,
    }
    provider = {
        "name": NAME,
        "vendor": "customendpoint",
        "apiType": "chat-completions",
        "models": [model],
    }
    notes = ["needs VS Code 1.122 or later; then choose the model in Copilot Chat's picker"]
    if server.wants_key:
        notes.append("enter the key in Chat: Manage Language Models, which keeps it as a secret")
    file = places.vscode / "chatLanguageModels.json"
    edits = (Edit((Item("name", NAME),), provider),)
    return Recipe(changes=(Change(file=file, format="json", edits=edits),), notes=tuple(notes))


RECIPES: dict[str, Callable[[Server, Places], Recipe]] = {
    "continue": continue_,
    "llama-vscode": llama_vscode,
    "llama-vim": llama_vim,
    "vim": vim,
    "neovim": neovim,
    "zed": zed,
    "aider": agents.aider,
    "cline": cline,
    "copilot": copilot,
    "codex": agents.codex,
    "claude-code": agents.claude_code,
    "opencode": agents.opencode,
    "llm": agents.llm,
}
