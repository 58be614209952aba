"""The text of one transcript file in, `Line(speaker, text, episode)` out.

`registry` lists the formats: to add one, write a module here and an entry there. `script` is the
format of most transcripts; `play`, `course_csv`, `html_page` and `kaggle` use parts of it.
"""
