from trek_lm.dashboard import as_code


def test_code_blocks_show_text_as_it_is() -> None:
    assert as_code("a:\n  b: <i>[c](d)\n\ne") == "    a:\n      b: <i>[c](d)\n    \n    e"


def test_long_lines_are_wrapped() -> None:
    assert as_code("word " * 30) == f"    {'word ' * 23}word\n      {'word ' * 5}word"
