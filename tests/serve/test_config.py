import pytest

from serve.config import load
from serve.errors import ConfigError


def test_the_file_is_read_and_overrides_win(tmp_path):
    path = tmp_path / "serve.toml"
    path.write_text('[server]\nport = 9000\n[engine]\nslots = 3\n[model]\nalias = "x"\n')
    settings = load(path, ["engine.slots=2", "model.file=/a b.gguf", "sampling.top_p=0.9"])
    assert settings.server.port == 9000
    assert settings.engine.slots == 2
    assert settings.model.file == "/a b.gguf"
    assert settings.sampling.top_p == 0.9


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("server.prot=1", "server.prot; did you mean server.port?"),
        ("sever.port=1", "sever; did you mean server?"),
        ("engine.zzzzzz=1", "known: "),
        ("engine.model=x", "did you mean model.file?"),
        ("port=1", "table.key=value"),
        ("server.port", "table.key=value"),
        ("server.port=99999", "it must be 0 to 65535"),
        ("server.port=http", "Expected `int`"),
        ("engine.kv_type=q2", "q2"),
        ("engine.slots=0", "at least 1"),
        ("server.ping_seconds=0", "ping_seconds"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(override, message):
    with pytest.raises(ConfigError) as caught:
        load(None, [override])
    assert message in str(caught.value)


def test_a_file_that_is_missing_or_no_toml_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("a = = 1")
    with pytest.raises(ConfigError, match="not TOML"):
        load(bad)


@pytest.mark.parametrize("table", ["server", "engine"])
def test_a_value_where_a_table_belongs_is_refused(tmp_path, table):
    path = tmp_path / "serve.toml"
    path.write_text(f"{table} = 1")
    with pytest.raises(ConfigError, match="Expected `object`"):
        load(path)
    with pytest.raises(ConfigError, match="not a table"):
        load(path, [f"{table}.x=1"])
