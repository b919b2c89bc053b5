"""Uploads a file by tus with tuspy: `upload.py SERVER TOKEN FILE ID [UPLOAD]`.

Prints the upload's URL, then how many bytes are there, after each chunk. With UPLOAD it goes on with that one.
"""

import sys

from tusclient.client import TusClient

server, token, file, document, *upload = sys.argv[1:]
client = TusClient(f"{server}/v1/uploads", headers={"Authorization": f"Bearer {token}"})
uploader = client.uploader(file, chunk_size=1 << 20, metadata={"id": document}, url=upload[0] if upload else None)
if not upload:
    uploader.set_url(uploader.create_url())
print(uploader.url, flush=True)
print(uploader.get_offset(), flush=True)
while uploader.offset < uploader.get_file_size():
    uploader.upload_chunk()
    print(uploader.offset, flush=True)
