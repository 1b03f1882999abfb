"""The parts of the page: what Gradio lays out and wires. Numbers come from `detector`, charts and words from `interpret`."""
