"""The web app of `g2s app`: jobs (queue and folders) · studio (what a job does) · page (Gradio) · server (HTTP)."""
