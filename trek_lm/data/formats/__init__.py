"""The text of one transcript file in, `Line(speaker, text, episode)` out.

`registry` lists the formats: a new one is a module here and an entry there. `script` is the format
of most transcripts and the longest to read; `play`, `course_csv`, `html_page` and `kaggle` build
on it.
"""
