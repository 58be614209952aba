from trek_lm.dashboard import as_code


def test_code_blocks_show_text_as_it_is() -> None:
    assert as_code("a\n<b>[c](d)") == "    a\n    <b>[c](d)"
