"""Requests and answers as data: OpenAI's interface, the TeleChat service, NDL's."""
