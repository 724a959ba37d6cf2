"""Models behind an OpenAI-compatible endpoint: a chat client, judged answers, answer spans, sampled answers."""
