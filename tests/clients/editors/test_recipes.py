"""Each recipe's files, on each system, beside what the user had before."""

import json
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from clients.editors import jsonc
from clients.editors.documents import edited
from clients.editors.places import Places
from clients.editors.recipe import Server
from clients.editors.recipes import RECIPES
from clients.errors import UsageError

SERVER = Server(
    root_url="http://127.0.0.1:8080",
    model="qwen-1.5b",
    context=32768,
    has_fim=True,
    has_tools=True,
    wants_key=False,
)
READERS = {"json": jsonc.load, "yaml": YAML(typ="safe").load, "toml": tomllib.loads, "text": str}


def with_key(server):
    fields = {name: getattr(server, name) for name in server.__struct_fields__}
    return Server(**fields | {"wants_key": True})


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path, "linux", {})


@pytest.fixture
def document(places):
    def document(name, before="", server=SERVER):
        change = RECIPES[name](server, places).changes[0]
        return READERS[change.format](edited(change, before))

    return document


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_the_server_and_can_be_repeated(name, places):
    recipe = RECIPES[name](SERVER, places)
    written = [edited(change, "") for change in recipe.changes]
    assert "http://127.0.0.1:8080" in "".join([*written, *recipe.notes])
    assert [
        edited(change, text) for change, text in zip(recipe.changes, written, strict=True)
    ] == written
    for change, text in zip(recipe.changes, written, strict=True):
        READERS[change.format](text)


@pytest.mark.parametrize("name", RECIPES)
def test_where_a_key_is_needed_the_user_learns_how_it_gets_there(name, places):
    recipe = RECIPES[name](with_key(SERVER), places)
    written = "".join(edited(change, "") for change in recipe.changes)
    assert "key" in written.lower() + " ".join(recipe.notes).lower()
    assert '"none"' not in written


def test_continue_keeps_models_and_comments_and_lets_the_server_lay_out_gaps(places, document):
    before = "# mine\nname: Home\nmodels:\n  - name: other  # good\n    provider: ollama\n"
    change = RECIPES["continue"](SERVER, places).changes[0]
    after = edited(change, before)
    assert after.startswith(before.replace("name: Home\n", "name: Home\n", 1)[: before.index("m")])
    assert "  - name: other  # good\n    provider: ollama\n" in after
    assert "&" not in after
    models = YAML(typ="safe").load(after)["models"]
    assert [each["name"] for each in models] == ["other", "edgesmith", "edgesmith autocomplete"]
    assert (models[2]["provider"], models[2]["roles"]) == ("mistral", ["autocomplete"])
    assert YAML(typ="safe").load(after)["name"] == "Home"


def test_zed_keeps_the_provider_of_predictions_that_was_chosen(document):
    before = '{\n  // theme\n  "edit_predictions": { "provider": "copilot" },\n}\n'
    after = document("zed", before)
    assert after["edit_predictions"]["provider"] == "copilot"
    provider = after["language_models"]["openai_compatible"]["edgesmith"]
    assert provider["available_models"][0]["max_tokens"] == 32768
    assert document("zed")["edit_predictions"]["provider"] == "open_ai_compatible_api"


def test_codex_and_claude_code_leave_the_usual_configuration_alone(places):
    codex = RECIPES["codex"](SERVER, places).changes
    claude = RECIPES["claude-code"](SERVER, places).changes
    assert [each.file.name for each in codex] == ["edgesmith.config.toml"]
    assert [each.file.name for each in claude] == ["edgesmith.json"]


def test_toml_keeps_comments(document, places):
    change = RECIPES["codex"](SERVER, places).changes[0]
    after = edited(change, '# mine\napproval_policy = "never" # really\n')
    assert after.startswith('# mine\napproval_policy = "never" # really\n')
    assert tomllib.loads(after)["model_providers"]["edgesmith"]["wire_api"] == "responses"


def test_a_short_context_is_said_where_agents_need_a_long_one(places):
    fields = {name: getattr(SERVER, name) for name in SERVER.__struct_fields__}
    small = Server(**fields | {"context": 8192})
    assert any("8,192" in note for note in RECIPES["codex"](small, places).notes)
    assert not any("context" in note for note in RECIPES["codex"](SERVER, places).notes)


@pytest.mark.parametrize(
    ("platform", "name", "expected"),
    [
        ("linux", "copilot", ".config/Code/User/chatLanguageModels.json"),
        ("darwin", "copilot", "Library/Application Support/Code/User/chatLanguageModels.json"),
        ("win32", "copilot", "AppData/Roaming/Code/User/chatLanguageModels.json"),
        ("darwin", "zed", ".config/zed/settings.json"),
        ("win32", "zed", "AppData/Roaming/Zed/settings.json"),
        ("win32", "opencode", ".config/opencode/opencode.json"),
        ("darwin", "llm", "Library/Application Support/io.datasette.llm/extra-openai-models.yaml"),
        ("win32", "neovim", "AppData/Local/nvim/plugin/edgesmith-settings.vim"),
        ("win32", "vim", "vimfiles/plugin/edgesmith-settings.vim"),
        ("linux", "aider", ".aider.conf.yml"),
    ],
)
def test_files_lie_where_each_system_keeps_them(platform, name, expected):
    home = Path("home")
    recipe = RECIPES[name](SERVER, Places(home, platform, {}))
    assert recipe.changes[0].file == home / expected


def test_moved_folders_are_found(tmp_path):
    places = Places(tmp_path, "linux", {"CODEX_HOME": "elsewhere", "XDG_CONFIG_HOME": "there"})
    assert RECIPES["codex"](SERVER, places).changes[0].file.parent == Path("elsewhere")
    assert RECIPES["zed"](SERVER, places).changes[0].file.parent == Path("there/zed")


@pytest.mark.parametrize(
    ("name", "before"), [("zed", "{"), ("codex", "a = "), ("continue", "a: [")]
)
def test_a_broken_file_is_named_and_left_alone(name, before, places):
    change = RECIPES[name](SERVER, places).changes[0]
    with pytest.raises(UsageError, match=r"is not valid (JSON|TOML|YAML) .*--print"):
        edited(change, before)


def test_aider_learns_the_context_of_a_model_it_does_not_know(places):
    change = RECIPES["aider"](SERVER, places).changes[1]
    assert json.loads(edited(change, ""))["openai/qwen-1.5b"]["max_input_tokens"] == 32768


@pytest.mark.parametrize("name", ["continue", "codex", "claude-code", "opencode"])
def test_a_model_without_tools_is_said_where_tools_are_always_sent(name, places):
    fields = {each: getattr(SERVER, each) for each in SERVER.__struct_fields__}
    plain = Server(**fields | {"has_tools": False})
    assert any(
        "tools" in note and "template" in note for note in RECIPES[name](plain, places).notes
    )
    assert not any("template" in note for note in RECIPES[name](SERVER, places).notes)
