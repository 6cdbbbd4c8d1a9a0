"""Registers HEIC and HEIF with Pillow; needs the optional extra ``heif`` (pillow-heif).

The plugin applies the rotation of the file itself, and returns the primary image. It decodes in the calling
thread only, and ignores previews and depth maps.
"""

from pillow_heif import register_heif_opener

register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
