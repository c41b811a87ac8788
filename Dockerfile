# g2s on a CPU.
#   docker build -t g2s .
#   docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/photos" g2s reconstruct face.jpg -o out/
#   docker run --rm -p 127.0.0.1:7860:7860 g2s app --host 0.0.0.0 --no-open
FROM python:3.11-slim
# PyPI's torch for Linux brings CUDA, several gigabytes.
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch==2.13.0
COPY pyproject.toml constraints.txt README.md LICENSE /src/
COPY g2s_cli /src/g2s_cli
COPY models /src/models
RUN pip install --no-cache-dir -c /src/constraints.txt '/src[app,film]'
# For users without a home folder (-u).
ENV HOME=/tmp
WORKDIR /photos
EXPOSE 7860
ENTRYPOINT ["g2s"]
