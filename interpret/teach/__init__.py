"""What the tab Teach computes, without Gradio: the quiz and the tour."""
