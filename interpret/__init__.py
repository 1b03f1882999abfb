"""Explanations of an analysis: names, words and charts. Imports `detector`, never gradio."""
