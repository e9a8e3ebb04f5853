"""The one training loop, its settings, optimizers, schedules and what it leaves on disk.

Pretraining, continued pretraining and fine-tuning differ in their objective, batches and starting weights only.
"""
