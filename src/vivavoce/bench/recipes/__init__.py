"""What was measured for the documents, to be measured again: ``vivavoce bench recipe NAME``.

A recipe is a module with ``options(parser)``, which adds its own options, and ``main(asked)``,
which measures and returns a ``Result``. Its first line says what it measures. Those that measure
processes of their own have ``work(*words)``, which runs in them (``turns.py``). Recipes import each
other relatively: a process that measures another checkout has that checkout's ``vivavoce``, and
these recipes.
"""
