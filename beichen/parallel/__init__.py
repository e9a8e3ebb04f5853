"""Process groups, meshes and sharding plans: the only area that names ``torch.distributed``.

Plans are data, applied to a model from outside; a model itself knows one device.
"""
